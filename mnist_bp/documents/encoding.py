"""How documents are encoded, and how they are checked when they are read.

Every document starts with its version and ends with its checksum. `parse` checks the checksum first, then the version,
then every field. An unknown field is refused: a change that adds a field also raises the version, so that an older
mnist-bp refuses the document by its version and does not ignore a part of it. The type of the version lists every
version that can be read; a field that an older one does not have needs a default. The newest version is written.
"""

from __future__ import annotations

from typing import TypeVar, get_args

from mnist_bp.errors import DataFormatError
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.schema import FrozenModel, shown, validate


class Document(FrozenModel):
    """Base of documents: the first field is the version, and the title of the configuration names the kind."""


DocumentT = TypeVar("DocumentT", bound=Document)


def dumps(document: Document) -> bytes:
    """Encode a document with its checksum. Equal documents give equal bytes."""
    return checksummed_json.dumps(document.model_dump(mode="json"))


def parse(model: type[DocumentT], content: bytes, what: str, hint: str) -> DocumentT:
    """Decode a document and check its checksum, its version and every field.

    Args:
        model: The expected kind of document.
        content: Its bytes.
        what: URI or path of the document, for messages.
        hint: What the user can do about a damaged document.

    Raises:
        ChecksumError: The bytes are not those that were written.
        DataFormatError: The document has no checksum, another version, or a wrong field.
    """
    document = checksummed_json.loads(content, what, hint)
    version, field = next(iter(model.model_fields.items()))
    title = str(model.model_config["title"])
    if version not in document:
        raise DataFormatError(f"{what} is not a {title}: it has no {version}; {hint}")
    known = get_args(field.annotation)
    if document[version] not in known:
        expected = " or ".join(map(str, known))
        raise DataFormatError(
            f"{what} has {version} {shown(document[version])}, expected {expected}: another version of mnist-bp wrote "
            "it; read it with that version"
        )
    return validate(model, document, what, title, hint)
