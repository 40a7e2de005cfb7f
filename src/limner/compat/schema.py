from typing import Any


def is_schema_class(c: Any) -> bool:
    return False


class SchemaNode:
    pass
