"""What training begins with: the weights of ``init_from``."""

from __future__ import annotations

from detcore import weights
from detcore.assemble import Parts, class_flow
from detcore.build import plan
from detcore.catalog import Catalog
from detcore.config import Config
from detcore.loading import classes_in, load_state, weights_in, with_prefix
from detcore.recipe import Recipe
from detcore.transfer import class_rows, transfer


def init_from(parts: Parts, config: Config, catalog: Catalog) -> list[str]:
    """Put the weights that a config's ``init_from`` names into the model, those of a class by its name.

    Returns:
        What became of them, a line each.

    Raises:
        UserError: There are none, or nothing of them fits.
    """
    spec, where = parts.plan.build("init_from"), config.table.where("init_from")
    if spec is None:
        return []
    source, new, report = weights.parse(spec, where), list(parts.classes), list[str]()
    content = weights.fetch(source, where, catalog)
    state, old = with_prefix(weights_in(content, where), source.prefix), classes_in(content)
    if old != new:
        flow = class_flow(config, [*new, "one class more"])
        flow = flow.having("init_from, which looks for what one class more adds,", num_classes=len(new) + 1)
        wider = plan(config, catalog, Recipe, load_weights=False).build("model", flow)
        rows = class_rows(parts.model, wider, len(new))
        state, report = transfer(state, parts.model.state_dict(), rows, old, new)
    return [f"init_from {source.address}: {line}" for line in (load_state(parts.model, state, where), *report)]
