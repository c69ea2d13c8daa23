"""Images, folders of them and videos through a predictor, into a folder: pictures, and COCO's results JSON."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image
from torch import Tensor

from detcore.assemble import Strings
from detcore.errors import ConfigError, DataError, UserError, raise_all
from detcore.files import write_text
from detcore.images import read_image
from detcore.pictures import draw
from detcore.predictor import Predictor, Result
from detcore.results import Row
from detcore.trained import load_detector

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")


@attrs.frozen(eq=False)
class Frame:
    """An image of a file, or one of a video's.

    Attributes:
        image: (3, H, W) uint8.
        source: The file.
        number: Which of the video's, from 0; None of an image.
        rate: Frames per second of the video.
    """

    image: Tensor
    source: Path
    number: int | None = None
    rate: Fraction | None = None


def predict(
    source: str,
    inputs: Strings,
    *,
    checkpoint: str | None = None,
    output: str = "predictions",
    score: float = 0.3,
    batch_size: int | None = None,
    draw: bool = True,
    sets: Strings = (),
    swaps: Strings = (),
    device: str | None = None,
) -> Sequence[UserError]:
    """Find objects in images, folders, globs and videos; what could not be read is returned.

    Args:
        source: A config or a checkpoint; see :func:`detcore.load_detector`.
        inputs: Files, folders and globs.
        checkpoint: Where ``source`` is a config.
        output: The folder that pictures, ``predictions.json`` and ``images.json`` are written to.
        score: What scores less is left out.
        batch_size: Images at once; by default that of ``[val]``.
        draw: Whether to draw.
        sets: As in :func:`detcore.run.train`.
        swaps: As in :func:`detcore.run.train`.
        device: As in :func:`detcore.run.train`.
    """
    files = find(inputs)
    predictor = load_detector(source, checkpoint, device=device, sets=sets, swaps=swaps)
    unread = predict_into(Path(output), predictor, files, score=score, batch_size=batch_size, pictures=draw)
    print(f"{len(files) - len(unread)} of {len(files)} files; in {output}")
    return unread


def find(inputs: Iterable[str]) -> list[Path]:
    """The files that are meant, each once: images and videos of folders (at any depth), of globs, and files.

    Raises:
        DataError: Something means no file; all of them at once.
        ConfigError: There is a video, and nothing to read it with.
    """
    found: dict[Path, None] = {}
    problems: list[UserError] = []
    for each in inputs:
        files = _files(each)
        if not files:
            what = "no image or video is in it" if Path(each).is_dir() else "there is no such file or folder"
            problems.append(DataError(each, what))
        found.update(dict.fromkeys(files))
    raise_all(problems)
    for video in filter(_is_video, found):
        _av(video)
    return [*found]


def predict_into(
    folder: Path,
    predictor: Predictor,
    files: Sequence[Path],
    *,
    score: float = 0.0,
    batch_size: int | None = None,
    pictures: bool = True,
) -> list[UserError]:
    """What is in ``files``: ``predictions.json``, rows of COCO's results; ``images.json``, COCO's table of the images
    and categories that they name; ``pictures/``.

    Args:
        folder: Where to; what is there is replaced.
        predictor: Finds it.
        files: Images and videos.
        score: What scores less is left out.
        batch_size: Images at once; by default as evaluation does.
        pictures: Whether to draw.

    Returns:
        A line for each file that could not be read, or not to its end.

    Raises:
        UserError: A picture would replace a file that is read; of the predictor.
    """
    unread: list[UserError] = []
    images: list[dict[str, Any]] = []
    rows: list[Row] = []
    frames = _frames(files, unread)
    with ExitStack() as stack:
        gallery = _Gallery(folder / "pictures", files, stack)
        size = batch_size or predictor.batch_size
        while batch := [*islice(frames, size)]:
            results = predictor.predict([each.image for each in batch], batch_size=size, score=score)
            for frame, result in zip(batch, results, strict=True):
                name = gallery.add(frame, result) if pictures else None
                images.append(_row_of_image(len(images) + 1, frame, name))
                rows += result.to_coco(len(images))
    categories = [{"id": label, "name": name} for label, name in enumerate(predictor.classes, 1)]
    write_json(folder / "predictions.json", rows)
    write_json(folder / "images.json", {"images": images, "categories": categories})
    return unread


def write_json(path: Path, content: Any) -> None:
    """A list or table as JSON, at once or not at all."""
    write_text(path, json.dumps(content) + "\n")


def _row_of_image(id_: int, frame: Frame, picture: str | None) -> dict[str, Any]:
    height, width = frame.image.shape[1:]
    row = {"id": id_, "file_name": frame.source.as_posix(), "width": width, "height": height}
    number = {} if frame.number is None else {"frame": frame.number}
    return {**row, **number, **({} if picture is None else {"picture": picture})}


def _files(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file():
        return [path]
    candidates = path.rglob("*") if path.is_dir() else map(Path, glob.glob(pattern, recursive=True))
    return sorted(each for each in candidates if each.suffix.lower() in IMAGES + VIDEOS and each.is_file())


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEOS


def _frames(files: Iterable[Path], unread: list[UserError]) -> Iterator[Frame]:
    for file in files:
        try:
            if _is_video(file):
                yield from _frames_of_video(file)
            else:
                yield Frame(read_image(file, exif=True), file)
        except DataError as error:
            unread.append(error)


class _Gallery:
    """Pictures of what was found, no two of one name, and a video of each video."""

    def __init__(self, folder: Path, files: Sequence[Path], stack: ExitStack) -> None:
        self.folder = folder
        self.read = {file.resolve() for file in files}
        self.names: dict[str, Path] = {}
        self.videos: dict[Path, _Video] = {}
        self.stack = stack

    def add(self, frame: Frame, result: Result) -> str:
        """Draw; returns the name in the folder."""
        picture = draw(frame.image, result.found, result.classes)
        if frame.number is None:
            path = self._path(frame.source, ".jpg")
            picture.save(path, quality=95)
            return path.name
        if frame.source not in self.videos:
            video = _Video(self._path(frame.source, ".mp4"), picture.size, frame.rate or Fraction(25))
            self.videos[frame.source] = self.stack.enter_context(video)
        self.videos[frame.source].add(picture)
        return self.videos[frame.source].path.name

    def _path(self, source: Path, suffix: str) -> Path:
        """``photo.jpg``, ``photo-2.jpg``, ...: file systems may ignore upper case."""
        number, name = 1, f"{source.stem}{suffix}"
        while name.lower() in self.names:
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self.names[name.lower()] = source
        path = self.folder / name
        if path.resolve() in self.read:
            raise DataError(str(path), "would be replaced by a picture of itself", "Choose another --output.")
        self.folder.mkdir(parents=True, exist_ok=True)
        return path


# ----------------------------------------------------------------------------------------------------------- videos


def _av(file: Path) -> Any:
    try:
        import av  # noqa: PLC0415 (optional)
    except ImportError as error:
        fix = 'Install PyAV: pip install "detcore[video]".'
        raise ConfigError(str(file), "videos need the package av, which is not installed", fix) from error
    return av


def _frames_of_video(file: Path) -> Iterator[Frame]:
    av = _av(file)
    number = 0
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise DataError(str(file), "holds no video")
            rate = container.streams.video[0].average_rate
            for frame in container.decode(video=0):
                pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()
                yield Frame(pixels, file, number, rate)
                number += 1
    except av.error.FFmpegError as error:
        done = f" (after {number} frames)" if number else ""
        raise DataError(str(file), f"cannot be read{done}: {error.strerror}", "Check the file.") from error


class _Video:
    """Pictures as a video."""

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self.path = path
        av = _av(path)
        self.container = av.open(str(path), "w")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self.stream = self.container.add_stream(codec, rate=rate)
        self.stream.width, self.stream.height = (each // 2 * 2 for each in size)  # colours are kept for 2 x 2 pixels
        self.stream.pix_fmt = "yuv420p"

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *exception: object) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()

    def add(self, picture: Image.Image) -> None:
        """The next picture; it is cut to the size of the first."""
        frame = _av(self.path).VideoFrame.from_image(picture.crop((0, 0, self.stream.width, self.stream.height)))
        self.container.mux(self.stream.encode(frame))
