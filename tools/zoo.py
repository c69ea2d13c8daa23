"""Which of MMDetection's own configs come over: imports each, and writes ``docs/zoo.md``.

    python tools/zoo.py FOLDER            # of configs, as the mmdet wheel has them in mmdet/.mim/configs
    python tools/zoo.py FOLDER --write

Each detector is built once, with weights that are not filled.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import attrs
from detcore import assemble
from detcore.build import plan
from detcore.catalog import Catalog
from detcore.errors import UserError
from detcore.plugins import discover
from detcore.recipe import Recipe
from detcore_mmdet.config import Imported, import_config
from detcore_mmdet.importing import read
from detcore_mmdet.writing import written
from torch import nn

PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"
FRAGMENTS = "_base_"
_BUILT: dict[str, dict[str, tuple[int, ...]]] = {}
"""Models that were built, by their tables: names and shapes of their tensors."""
MOST = 3
"""How many of the parts that a family lacks are named."""
TEXT = """# MMDetection's zoo

What becomes of the configs of MMDetection 3.3.0 in `core-run import-mmdet`. `python tools/zoo.py FOLDER --write` writes
this page, `nox -s zoo` compares it with what is.

- **whole**: every value has a counterpart, or one that is noted (`otherwise`);
- **imported**: the detector has all its parts, and what else is lost is listed; where it lacks some, `--partial` writes
  what there is;
- **builds**: the detector is built of what was written, as `core-run check` does it.

Configs that are not read are scripts, or have bases that the wheel does not have.

| family | configs | whole | imported | builds | what is missing most |
|---|---|---|---|---|---|
"""


@attrs.frozen
class Result:
    """What became of a config.

    Attributes:
        family: Its folder.
        name: Its path below the zoo.
        found: The import; None where it could not be read.
        builds: Whether its detector is built.
        problem: Why it is not.
    """

    family: str
    name: str
    found: Imported | None
    builds: bool
    problem: str

    @property
    def missing(self) -> list[str]:
        """Names of parts, or keys, without a counterpart."""
        if self.found is None:
            return []
        lacking = self.found.lacks or self.found.lost
        named = [each.why.startswith("no installed plugin") for each in lacking]
        pairs = zip(lacking, named, strict=True)
        return [str(each.value) if by_name else each.path.rpartition(".")[2] for each, by_name in pairs]


def results(zoo: Path, families: Sequence[str] = ()) -> Iterator[Result]:
    """Every config, in order; fragments aside."""
    catalog = discover()
    for path in sorted(zoo.rglob("*.py")):
        family = path.relative_to(zoo).parts[0]
        if family != FRAGMENTS and (not families or family in families):
            yield result(path, zoo, catalog)


def result(path: Path, zoo: Path, catalog: Catalog) -> Result:
    """What becomes of a config."""
    name = path.relative_to(zoo).as_posix()
    family = name.partition("/")[0]
    try:
        found = import_config(read(path, [zoo]), catalog)
    except UserError as error:
        return Result(family, name, None, False, str(error))
    if found.lacks:
        return Result(family, name, found, False, ", ".join(map(str, found.lacks)))
    try:
        build(written(found.table, {}, []), found, catalog)
    except UserError as error:
        return Result(family, name, found, False, str(error))
    return Result(family, name, found, True, "")


def build(text: str, found: Imported, catalog: Catalog) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that the detector of a written config has; all of the config is checked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(text, "utf-8")
        config, _ = assemble.load(str(path))
    checked = plan(config, catalog, Recipe, load_weights=False)
    number = len(found.table.get("classes", ())) or found.num_classes or 1
    model = json.dumps([found.table["model"], number])
    if model not in _BUILT:
        classes = [f"class {each}" for each in range(number)]
        with unfilled():
            _BUILT[model] = {
                name: tuple(value.shape)
                for name, value in checked.build("model", assemble.class_flow(config, classes)).state_dict().items()
            }
    return _BUILT[model]


@contextmanager
def unfilled() -> Iterator[None]:
    """Weights are made and left as they are: filling them takes most of the time."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *_, **__: tensor))
        yield


def page(found: Sequence[Result]) -> str:
    """The table of all families, and their sum."""
    read_ = [each for each in found if each.found is not None]
    rows = [
        row(family, [each for each in read_ if each.family == family]) for family in sorted({e.family for e in read_})
    ]
    rows.append(row("**all**", read_, missing=False))
    unread = len(found) - len(read_)
    lacking = Counter(name for each in read_ for name in {*each.missing})
    most = ", ".join(f"`{name}` ({count})" for name, count in commonest(lacking, 20))
    return f"{TEXT}{''.join(rows)}\n{unread} more are not read. Missing most, in so many configs: {most}.\n"


def commonest(counted: Counter[str], most: int) -> list[tuple[str, int]]:
    """Names and how often, those of one number in the order of the alphabet."""
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def row(family: str, found: Sequence[Result], *, missing: bool = True) -> str:
    """A line of the table."""
    whole = sum(each.found is not None and each.found.whole for each in found)
    imported = sum(each.found is not None and not each.found.lacks for each in found)
    counted = Counter(name for each in found for name in {*each.missing})
    named = ", ".join(f"`{name}`" for name, _ in commonest(counted, MOST)) if missing else ""
    return f"| {family} | {len(found)} | {whole} | {imported} | {sum(each.builds for each in found)} | {named} |\n"


def main(arguments: Sequence[str]) -> None:
    """Print the page, or write it."""
    folder, *options = [each for each in arguments if each != "--write"]
    found = [*results(Path(folder), options)]
    for each in found:
        if not each.builds and each.found is not None and not each.found.lacks:
            print(f"{each.name}: {each.problem}", file=sys.stderr)
    if "--write" in arguments:
        PAGE.write_text(page(found), "utf-8")
    else:
        print(page(found))


if __name__ == "__main__":
    main(sys.argv[1:])
