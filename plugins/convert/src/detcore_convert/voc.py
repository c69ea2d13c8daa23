"""Pascal VOC's folders: Annotations, ImageSets/Main, and JPEGImages, which is a link."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from detcore.files import write_text

from detcore_convert.folders import link
from detcore_convert.sheets import Sheet, Source, Thing, count_areas, count_classes, count_outlines, number, unique


def write_voc(source: Source, output: Path, split: str, linked: bool) -> None:
    """An XML for each image; boxes are its first and last pixels, counted from 1, with digits where they have some."""
    if linked:
        link(output / "JPEGImages", source.folder)
    stems: list[str] = []
    seen: set[str] = set()
    for sheet in unique(source.sheets()):
        write_text(output / "Annotations" / f"{sheet.stem}.xml", _xml(sheet))
        stems.append(sheet.stem)
        seen.update(thing.name for thing in sheet.things)
        source.losses["crowds, now difficult objects"] += sum(thing.crowd for thing in sheet.things)
        count_areas(sheet.things, source.losses)
        count_outlines(sheet.things, source.losses)
    count_classes(source.dataset.classes, seen, source.losses)
    write_text(output / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _xml(sheet: Sheet) -> str:
    objects = "".join(map(_object, sheet.things))
    return (
        "<annotation>\n"
        "\t<folder>JPEGImages</folder>\n"
        f"\t<filename>{escape(Path(sheet.name).name)}</filename>\n"
        f"\t<size><width>{sheet.width}</width><height>{sheet.height}</height><depth>3</depth></size>\n"
        f"\t<segmented>0</segmented>\n{objects}"
        "</annotation>\n"
    )


def _object(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    numbers = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
    box = "".join(f"<{tag}>{number(value)}</{tag}>" for tag, value in numbers.items())
    return (
        "\t<object>\n"
        f"\t\t<name>{escape(thing.name)}</name>\n"
        f"\t\t<difficult>{int(thing.crowd)}</difficult>\n"
        f"\t\t<bndbox>{box}</bndbox>\n"
        "\t</object>\n"
    )
