"""The parent of every exception that a caller of Meadow may want to catch."""


class Error(Exception):
    """Something that a person can put right; the message says what, where, and how.

    Example:
        >>> import meadow
        >>> try:
        ...     meadow.load_dataset("wikidok")
        ... except meadow.Error as error:
        ...     print(type(error).__name__)
        UnknownDatasetError
    """
