"""YOLOv3 (Redmon and Farhadi 2018)."""
