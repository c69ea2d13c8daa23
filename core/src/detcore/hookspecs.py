"""Every extension point of detcore. What is not on this page is not an extension point.

A plugin is a module that an entry point of the group ``detcore`` names; it imports no torch and implements hooks::

    from detcore import Component, hookimpl

    @hookimpl
    def detcore_components():
        return [Component("backbone", "TinyNet", "detcore_tiny.net:TinyNet")]

Two things need no hook: the folder ``configs/`` of a plugin's package is what ``detcore-tiny::tiny.toml`` refers to,
and an entry point of the group ``detcore.commands`` adds a click command to ``core-run``, named as the entry point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pluggy

from detcore.catalog import Component, Kind, Namespace

hookspec = pluggy.HookspecMarker("detcore")
hookimpl = pluggy.HookimplMarker("detcore")
"""Marks a plugin's function as the hook of its name."""


@hookspec
def detcore_components() -> Sequence[Component | Namespace | Kind]:
    """Called once at discovery, right after the plugin's module was imported.

    Returns the components the plugin provides, the library families it opens and the kinds it adds. They are strings:
    a target is imported when a config first asks for it.
    """
    raise NotImplementedError


@hookspec
def detcore_weight_sources() -> Mapping[str, str]:
    """Called once at discovery, after ``detcore_components``.

    Returns URL scheme -> ``"pkg.mod:function"``. For ``weights = "zoo://tiny"`` the function that
    ``zoo`` stands for is imported and called with ``"tiny"``; it returns a state dict (name -> tensor), or one with its
    classes, which ``init_from`` matches by name: ``{"state_dict": ..., "meta": {"classes": [...]}}``.
    """
    raise NotImplementedError


@hookspec
def detcore_importers() -> Mapping[str, str]:
    """Called once at discovery, after ``detcore_weight_sources``.

    Returns another toolbox's name -> ``"pkg.mod:TRANSLATIONS"``. The plugin that reads that toolbox's configs (for
    ``mmdet``: detcore-mmdet) imports it: names of components there -> functions, as :mod:`detcore.foreign` has them.
    """
    raise NotImplementedError
