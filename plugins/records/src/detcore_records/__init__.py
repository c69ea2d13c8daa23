"""What data formats share: see ``detcore_records.dataset``, and ``detcore_records.record`` for what one yields."""
