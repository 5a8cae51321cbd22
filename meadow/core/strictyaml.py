"""YAML as people write it by hand, read without guessing."""

from __future__ import annotations

from typing import Any


def load(text: str) -> Any:
    """Decodes YAML, and refuses a key that stands twice, of which YAML would silently take the last.

    Raises:
        yaml.YAMLError: It is no YAML, or has such a key; the message has the place.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                name = str(key.value)
                if name in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {name!r} stands twice", key.start_mark
                    )
                seen.add(name)
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)
