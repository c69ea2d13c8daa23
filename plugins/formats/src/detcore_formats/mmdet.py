"""Data sets in files of their own, by their names in MMDetection.

Its CityscapesDataset reads COCO's files, which detcore-coco translates.
"""

from __future__ import annotations

from detcore.foreign import Foreign, Part
from detcore_records.mmdet import joined, shared


def crowd_human(table: Foreign) -> Part:
    """CrowdHumanDataset: boxes of whole people."""
    table.get("extra_ann_file")  # sizes of images, which are read from the images here
    found = shared(table, ["person"])
    return table.into(
        "CrowdHumanDataset",
        source=found.annotations,
        images=found.images,
        keep_empty=found.keep_empty,
        invalid="skip",
    )


def wider_face(table: Foreign) -> Part:
    """WIDERFaceDataset. There someone made VOC's files of the data; here its own text is read."""
    found = shared(table, ["face"])
    table.table("filter_cfg").only(bbox_min_size=None)
    split = "val" if "val" in str(found.annotations) else "train"
    source = joined(found.root, f"wider_face_split/wider_face_{split}_bbx_gt.txt")
    table.note("ann_file", f"the data set's own text is read, {source}, not files of VOC's kind")
    return table.into(
        "WIDERFaceDataset",
        source=source,
        images=f"{found.images}/images",
        keep_empty=found.keep_empty,
        invalid="skip",
    )


def open_images(table: Foreign) -> Part:
    """OpenImagesDataset. Without the hierarchy, a class is not also what it is a kind of."""
    for key in ("meta_file", "load_from_file", "get_metas", "get_parent_class"):
        table.get(key)  # sizes of images, which are read from the images here
    if table.get("hierarchy_file"):
        table.lose("hierarchy_file", "a class is not also the one that it is a kind of")
    if table.get("image_level_ann_file"):
        table.lose("image_level_ann_file", "what was verified of whole images is not read")
    found = shared(table)
    return table.into(
        "OpenImagesDataset",
        classes=found.table["classes"],
        source=found.annotations,
        images=found.images,
        descriptions=joined(found.root, str(table.get("label_file", ""))),
        keep_empty=found.keep_empty,
        invalid="skip",
    )


def crowd_human_metric(table: Foreign) -> Part:
    """CrowdHumanMetric: all three figures, of whole people."""
    for key in ("ann_file", "metric", "outfile_prefix", "backend_args", "file_client_args", "num_ji_process"):
        table.get(key)
    for key in ("collect_device", "prefix"):
        table.get(key)
    table.only(format_only=False, eval_mode=0, compare_matching_method=None, mr_ref="CALTECH_-2")
    threshold = table.get("iou_thres", 0.5)
    return table.into("CrowdHumanEvaluator", iou_threshold=None if threshold == 0.5 else threshold)


def open_images_metric(table: Foreign) -> Part:
    """OpenImagesMetric: VOC's average precision, without what the hierarchy of classes adds."""
    for key in ("ioa_thrs", "use_group_of", "get_supercategory", "filter_labels", "collect_device", "prefix"):
        table.get(key)
    threshold = table.get("iou_thrs", 0.5)
    table.note("type", "groups count neither for nor against, and a class is not also the one that it is a kind of")
    return table.into("VOCEvaluator", iou_threshold=None if threshold in (0.5, [0.5]) else threshold)


TRANSLATIONS = {
    "OpenImagesMetric": open_images_metric,
    "CrowdHumanDataset": crowd_human,
    "CrowdHumanMetric": crowd_human_metric,
    "WIDERFaceDataset": wider_face,
    "OpenImagesDataset": open_images,
}
