"""Lists of patients, and what became of their rows, in the bucket.

I/O. Nothing else calls S3. A list is read by its ETag: one that is replaced while it is read is no longer that list.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError

from patient_contact import aws, bulk_list, settings
from patient_contact.bulk_list import BadList, Chunk
from patient_contact.bulks import Listed

# How much of a list is in memory at a time.
PIECE = 1024 * 1024
# S3's own limit, in UTF-8.
MAX_KEY = 1_024
LISTS, BROADCASTS, RESULTS = "lists/", "broadcasts/", "results/"


class ListGone(Exception):
    """The list is not in the bucket, or not any more as it was, or not to be read; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BucketUnavailable(Exception):
    """The bucket did not answer now; trying again later may succeed."""


def uploaded(practice_id: str, key: str) -> Listed:
    """Look at a list that the practice has uploaded under `lists/{practice}/`; raise BadList for one that is none."""
    format_ = next((each for ending, each in bulk_list.FORMATS.items() if key.lower().endswith(ending)), None)
    if not key.startswith(f"{LISTS}{practice_id}/"):
        raise BadList(f"a list lies under {LISTS}{practice_id}/ in the bucket of lists")
    # Dots would be taken out of the address on the way: "lists/north/../south/" is another practice's.
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise BadList("a list's name has no empty parts and none of dots alone")
    if len(key.encode()) > MAX_KEY:
        raise BadList(f"an object's key has at most {MAX_KEY} bytes")
    if format_ is None:
        raise BadList(f"a list's name ends in {', '.join(bulk_list.FORMATS)}")
    try:
        with _errors(of_upload=True):
            head = aws.s3().head_object(Bucket=settings.lists_bucket(), Key=key)
        listed = Listed(key, head["ETag"], head["ContentLength"], format_, 0)
        beginning = read(listed, 0, min(listed.size, bulk_list.MAX_HEADER))
    except ListGone as gone:
        raise BadList(gone.reason) from None
    begin, columns = bulk_list.header(beginning, listed.size, format_)
    return Listed(key, listed.etag, listed.size, format_, begin, tuple(columns))


def written(practice_id: str, bulk_id: str, patient_ids: Iterable[str]) -> Listed:
    """Write the list of a broadcast.

    Each attempt under its own name: two at the same moment do not replace each other's, and one of them is started.
    """
    key = f"{BROADCASTS}{practice_id}/{bulk_id}/{uuid.uuid4()}.jsonl"
    data = "".join(f"{json.dumps(patient_id)}\n" for patient_id in patient_ids).encode()
    return Listed(key, put(key, data), len(data), "jsonl", 0)


def pieces(listed: Listed, begin: int) -> Iterator[bytes]:
    """Read a list from a byte on, piece by piece."""
    if begin >= listed.size:
        return
    with _errors(of_upload=True):
        answer = aws.s3().get_object(
            Bucket=settings.lists_bucket(), Key=listed.key, IfMatch=listed.etag, Range=f"bytes={begin}-"
        )
        yield from answer["Body"].iter_chunks(PIECE)


def read(listed: Listed, begin: int, end: int) -> bytes:
    """Read the bytes of a list from `begin` up to `end`."""
    if begin >= end:
        return b""
    with _errors(of_upload=True):
        answer = aws.s3().get_object(
            Bucket=settings.lists_bucket(), Key=listed.key, IfMatch=listed.etag, Range=f"bytes={begin}-{end - 1}"
        )
        return answer["Body"].read()


def rows(listed: Listed, chunk: Chunk) -> list[bulk_list.Row | bulk_list.BadRow]:
    """Read the rows of a chunk; those of a row that is too long are not read."""
    data = b"" if chunk.too_long else read(listed, chunk.begin, chunk.end)
    return bulk_list.rows(data, chunk, listed.format, listed.columns)


def put(key: str, data: bytes) -> str:
    """Put an object, and give its ETag."""
    with _errors():
        return str(aws.s3().put_object(Bucket=settings.lists_bucket(), Key=key, Body=data)["ETag"])


def put_results(practice_id: str, bulk_id: str, number: int, results: Iterable[dict[str, Any]]) -> str:
    """Put what became of the rows of a chunk, and give the object's key: each attempt's is its own."""
    key = f"{RESULTS}{practice_id}/{bulk_id}/{number:06}-{uuid.uuid4().hex[:12]}.jsonl"
    put(key, "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in results).encode())
    return key


def get_results(key: str) -> list[dict[str, Any]]:
    """Read back what `put_results` put; raise ListGone when it is kept no longer."""
    with _errors():
        data = aws.s3().get_object(Bucket=settings.lists_bucket(), Key=key)["Body"].read()
    return [json.loads(line) for line in data.splitlines()]


@contextmanager
def _errors(*, of_upload: bool = False) -> Iterator[None]:
    """Say S3's errors in our words; what we do not know passes through.

    What a practice has uploaded may be forbidden to us by how it did that; what is our own is not, but by mistake.
    """
    try:
        yield
    except (botocore_errors.ConnectionError, botocore_errors.HTTPClientError) as error:
        raise BucketUnavailable(type(error).__name__) from error
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise ListGone("there is no such list in the bucket") from error
        if status == 412:
            raise ListGone("the list has been replaced since it was started") from error
        # Of a HEAD that is all that is answered.
        if of_upload and code in ("AccessDenied", "InvalidObjectState", "403"):
            raise ListGone("the list may not be read: it is archived, or encrypted with another key") from error
        if status >= 500 or code in ("SlowDown", "RequestTimeout"):
            raise BucketUnavailable(code) from error
        raise
