"""A JSON Schema of all that is installed, so that editors complete and check configs."""

from __future__ import annotations

from typing import Any

from detcore import signature
from detcore.catalog import Catalog
from detcore.errors import UserError
from detcore.signature import Child, Parameter

_TABLE = {"type": "object"}


def schema_of(catalog: Catalog, root: type) -> dict[str, Any]:
    """The schema of a config whose top level is ``root``. Imports every component; one that fails is left open.

    Members of namespaces (a library's optimizers, transforms, models) are not listed: any further ``type`` is allowed
    for a kind that has one.
    """
    kinds = {kind: _kind(catalog, kind) for kind in sorted(catalog.kinds)}
    body = _table(signature.read(root, catalog.kind_of), catalog)
    body["properties"].update(_base_={"type": ["string", "array"]}, vars=_TABLE, plugins=_TABLE)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body, "$defs": kinds}


def _kind(catalog: Catalog, kind: str) -> dict[str, Any]:
    names = sorted(name for its_kind, name in catalog.components if its_kind == kind)
    choices = [_component(catalog, kind, name) for name in names]
    if kind in catalog.namespaces:
        listed = {"properties": {"type": {"type": "string", "not": {"enum": names}}}, "required": ["type"]}
        choices.append({**_TABLE, **listed})
    edits = {**_TABLE, "not": {"required": ["type"]}}  # an override of an inherited component, or a list edit
    return {"description": catalog.kinds[kind].record.summary, "anyOf": [*choices, edits]}


def _component(catalog: Catalog, kind: str, name: str) -> dict[str, Any]:
    entry = catalog.components[kind, name][0]
    named = {"type": {"const": name}}
    try:
        target = catalog.find(kind, f"{entry.distribution}/{name}", "")
        skip = catalog.kinds[kind].record.supplies
        body = _table(signature.read(target.obj, catalog.kind_of, skip=skip), catalog)
    except UserError:
        return {**_TABLE, "properties": named, "required": ["type"]}
    body["properties"] = {**named, "weights": {}, **body["properties"]}
    return {
        "description": entry.record.summary or str(entry),
        **body,
        "required": ["type"],
    }  # the rest may be inherited


def _table(read: signature.Signature, catalog: Catalog) -> dict[str, Any]:
    properties = {name: _parameter(parameter, catalog) for name, parameter in read.parameters.items()}
    markers = {"_delete_": {"const": True}, "_wrap_": {"type": "string"}}
    return {**_TABLE, "properties": {**properties, **markers}, "additionalProperties": read.open}


def _parameter(parameter: Parameter, catalog: Catalog) -> dict[str, Any]:
    if parameter.section is not None:
        body = _table(signature.read(parameter.section, catalog.kind_of), catalog)
        return {**_TABLE, "additionalProperties": body} if parameter.named else body
    body = _child(parameter.child, catalog) if parameter.child else signature.json_schema(parameter.hint)
    escape = [{"type": "string", "pattern": r"\$\{"}, {**_TABLE, "patternProperties": {"^_[a-z_]+_$": {}}}]
    return {"anyOf": [body, *escape]} if body else {}


def _child(child: Child, catalog: Catalog) -> dict[str, Any]:
    one = {"$ref": f"#/$defs/{catalog.kind_of(child.interface)}"}
    shapes = {
        "one": one,
        "many": {"anyOf": [{"type": "array", "items": one}, _TABLE]},  # a table edits an inherited list
        "named": {**_TABLE, "additionalProperties": one},
    }
    return {"anyOf": [shape for name, shape in shapes.items() if name in child.shapes]}
