"""A bucket of pictures: each attempt puts its objects below a name of its own, and is published by server-side copies.

    <prefix>.staging/<name>/        objects of one attempt, the manifest once all others are there
    <prefix><destination>/          published, the manifest last of all

What is staged lies in the bucket, not on a disk, before the job table says that it is to be published. So whoever
finds a publication that its owner has left brings it to its end, on whatever machine, and nothing is decoded again.

A copy has its source as its condition: he who was taken for dead, and wakes up when the publication is over, finds
none. The older manifest is deleted on condition that it is still the one that was read before the staging was last
seen (If-Match). Where a server knows no such condition (Amazon's, moto and others do), he would have to wake up just
between these two requests to delete a later one.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

from daemon.errors import BadJob, StoreFailure
from daemon.files import MANIFEST
from daemon.media_types import media_type
from daemon.net import Answer
from daemon.s3 import S3Bucket
from daemon.store.requests import Place, Requests, store_failures
from daemon.threads import in_thread

STAGING = ".staging"
_LONGEST_NAME = 768  # bytes up to the names of the files; S3 allows 1024 in all
_TRUSTED = 10.0  # seconds for which a check that found all well is remembered


class BucketStaging:
    """The objects of one attempt. They are in the bucket when `write` returns."""

    def __init__(self, bucket: "Bucket", name: str) -> None:
        self._bucket = bucket
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def _place(self, file: str) -> str:
        return f"{self._bucket.place.prefix}{STAGING}/{self._name}/{file}"

    def write(self, files: Mapping[str, bytes]) -> None:
        """Whole objects. Raises StoreFailure: then this attempt is over, and what is there of them is swept."""

        async def put(objects: S3Bucket, file: str) -> None:
            await objects.put_bytes(self._place(file), files[file], media_type(file))

        try:
            with store_failures(f"writing {next(iter(files), '')}"):
                self._bucket.requests.each(put, files)
        except StoreFailure:
            with suppress(StoreFailure):
                self._bucket.remove_objects([self._place(file) for file in files])
            raise

    def adopt(self, files: Mapping[str, str]) -> int:
        """Objects that were published before, once more, by server-side copies; their bytes in all. Raises
        FileNotFoundError, and StoreFailure."""

        async def copy(objects: S3Bucket, file: str) -> None:
            if not await objects.copy(self._bucket.place.prefix + files[file], self._place(file)):
                raise FileNotFoundError(files[file])

        with store_failures(f"copying {next(iter(files), '')}"):
            self._bucket.requests.each(copy, files)
            sizes = self._bucket.requests.do(lambda objects: objects.sizes(self._place("")))
        return sum(sizes[self._place(file)] for file in files)

    def open(self, file: str) -> int:
        """The descriptor of a new, empty file of this machine, which nobody else finds. Raises StoreFailure."""
        return self._bucket.scratch_file(f"making {file}")

    def settle(self, file: str, descriptor: int) -> None:
        """Brings what was written to an open file to the bucket. Raises StoreFailure."""
        with store_failures(f"writing {file}"):
            self._bucket.requests.do(lambda objects: objects.put(self._place(file), descriptor, media_type(file)))

    def remove(self, file: str) -> None:
        """An object that is not wanted after all: else it would be published with the others. Raises StoreFailure."""
        self._bucket.remove_objects([self._place(file)])

    def discard(self) -> None:
        """Removes all of it. What could not be removed now is swept later."""
        with suppress(StoreFailure):
            self._bucket.sweep([self._name])


class Bucket:
    """The store in a bucket. `scratch`: a folder of this machine, for clips that are written and for copies."""

    def __init__(self, place: Place, scratch: Path) -> None:
        self.place = place
        self.requests = Requests(place)
        self._scratch = scratch
        self._readers = place.objects()  # for those who read on the loop of whoever serves them
        self._well: tuple[float, int] | None = None  # when it was, and how many requests had failed by then

    def remove_objects(self, names: Iterable[str]) -> None:
        """Raises StoreFailure."""

        async def delete(objects: S3Bucket, name: str) -> None:
            await objects.delete(name)

        with store_failures("removing objects"):
            self.requests.each(delete, names)

    def scratch_file(self, doing: str) -> int:
        """The descriptor of a file without a name. Raises StoreFailure."""
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                return os.dup(file.fileno())
        except OSError as error:
            raise StoreFailure(f"{doing} failed: {error.strerror} (free space, or mend store.root)") from error

    # Publication.

    def stage(self, name: str) -> BucketStaging:
        """A new, empty staging. Raises StoreFailure."""
        self.sweep([name])
        return self.staged(name)

    def staged(self, name: str) -> BucketStaging:
        """A staging made before, which may be gone."""
        return BucketStaging(self, name)

    def check_destination(self, destination: str) -> None:
        """Raises BadJob where the names of objects would be longer than S3 allows."""
        if len(f"{self.place.prefix}{destination}".encode()) > _LONGEST_NAME:
            raise BadJob(f"destination: it is longer than a bucket allows ({_LONGEST_NAME} bytes, its prefix included)")

    def publish(self, name: str, destination: str) -> None:
        """Copies what was staged under `name` to the destination, the manifest last, and removes it. Does nothing
        where that was done already. Raises StoreFailure."""
        staged, target = f"{self.place.prefix}{STAGING}/{name}/", f"{self.place.prefix}{destination}/".lstrip("/")
        with store_failures(f"publishing to {destination}"):
            while self._is_to_be_copied(staged, target):
                files = self._names(staged) - {staged + MANIFEST}
                with suppress(FileNotFoundError):  # somebody else has brought it to its end
                    self.requests.each(partial(_copy, staged, target), files)
                    self.requests.each(partial(_copy, staged, target), [staged + MANIFEST])
                    break
            self.remove_objects([staged + MANIFEST])  # from here on it is over for everybody
            self.sweep([name])

    def _names(self, prefix: str) -> set[str]:
        return set(self.requests.do(lambda objects: objects.sizes(prefix)))

    def _is_to_be_copied(self, staged: str, target: str) -> bool:
        """Whether a publication is not over. Where it is not, there is no older manifest any more, which would call
        the mixture complete.

        The order matters: where the staged manifest is seen after the other one, that is no later one."""
        while True:
            there = self.requests.do(lambda objects: objects.get(target + MANIFEST))
            ours = self.requests.do(lambda objects: objects.get(staged + MANIFEST))
            if ours is None or (there is not None and there.data == ours.data):
                return False
            if there is None or self.requests.do(partial(_rewrite, target + MANIFEST, None, there.etag)):
                return True

    def sweep(self, over: Iterable[str]) -> None:
        """Removes these stagings. Raises StoreFailure."""
        for name in over:
            staged = f"{self.place.prefix}{STAGING}/{name}/"
            with store_failures("looking for what was staged"):
                left = self._names(staged)
            self.remove_objects(left)

    def staging_names(self) -> list[str]:
        """Of all stagings that are there. Raises StoreFailure."""
        with store_failures("looking for what was staged"):
            return self.requests.do(lambda objects: objects.folders(f"{self.place.prefix}{STAGING}/"))

    def expire(self, destination: str, files: Iterable[str], rewrite: Callable[[bytes], bytes | None]) -> None:
        """Removes published objects. `rewrite` makes of the manifest what is true afterwards, None where there is to be
        none; that is done first. May be done again. Raises StoreFailure."""
        manifest = f"{self.place.prefix}{destination}/{MANIFEST}"
        with store_failures(f"removing what expired in {destination}"):
            while (there := self.requests.do(lambda objects: objects.get(manifest))) is not None:
                left, etag = rewrite(there.data), there.etag
                if left == there.data or self.requests.do(partial(_rewrite, manifest, left, etag)):
                    break
            self.remove_objects([self.place.prefix + file for file in files])

    # What was published.

    def open(self, file: str) -> int:
        """The descriptor of a copy on this machine, which nobody else finds. Raises FileNotFoundError, StoreFailure."""
        descriptor = self.scratch_file(f"reading {file}")
        try:
            with store_failures(f"reading {file}"):
                self.requests.do(partial(_download, self.place.prefix + file, descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def url(self, file: str, begins: int, seconds: int) -> str:
        """A URL of the bucket's own, good for so long from this time on, 7 days at most."""
        return self._readers.url(self.place.prefix + file, begins, seconds)

    @asynccontextmanager
    async def stream(self, method: str, file: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The bucket's answer to a request for a published file, as it comes, on the loop of who asks. Raises
        StoreFailure."""
        with store_failures(f"reading {file}"):
            async with self._readers.stream(method, self.place.prefix + file, headers) as answer:
                yield answer

    # What is kept beside it.

    def keep(self, path: str, source: int) -> None:
        """Copies an open file to this path. Raises StoreFailure."""
        with store_failures(f"writing {path}"):
            self.requests.do(lambda objects: objects.put(self.place.prefix + path, source, media_type(path)))

    def has(self, file: str) -> bool:
        """Whether there is such an object. Raises StoreFailure."""
        name = self.place.prefix + file
        with store_failures(f"looking for {file}"):
            return name in self._names(name)

    def folders(self, path: str) -> list[str]:
        """What stands between this path and the next slash in the names of objects. Raises StoreFailure."""
        with store_failures(f"looking into {path}"):
            return self.requests.do(lambda objects: objects.folders(f"{self.place.prefix}{path}/"))

    def remove(self, path: str) -> None:
        """Removes the object of this name, and all below it. Raises StoreFailure."""
        name = self.place.prefix + path
        with store_failures(f"removing {path}"):
            self.remove_objects({name, *self._names(f"{name}/")})

    # How it is.

    def free_bytes(self) -> int:
        """Room that is left on this machine's disk, where clips are written before they are put into the bucket."""
        return shutil.disk_usage(self._scratch).free

    def check(self) -> None:
        """Raises StoreFailure unless the bucket takes, lists and removes objects, and the folder takes files. What was
        found well a few seconds ago, without any failure since, is taken for well."""
        os.close(self.scratch_file("making a file"))
        failures = self.requests.failures
        if self._well is not None and monotonic() < self._well[0] + _TRUSTED and self._well[1] == failures:
            return
        probe = f"{self.place.prefix}.probe"
        with store_failures(f"writing to the store {self.place}"):
            self.requests.do(lambda objects: objects.put_bytes(probe, b"thumbd was here", "text/plain"))
            self.requests.do(lambda objects: objects.sizes(probe))
            self.requests.do(lambda objects: objects.delete(probe))
        self._well = monotonic(), failures

    async def close(self) -> None:
        """Ends its connections; nothing is asked of it afterwards."""
        await in_thread(self.requests.close)
        await self._readers.client.close()


async def _copy(staged: str, target: str, objects: S3Bucket, name: str) -> None:
    """Raises FileNotFoundError where it is not staged any more."""
    if not await objects.copy(name, target + name.removeprefix(staged)):
        raise FileNotFoundError(name)


async def _rewrite(manifest: str, left: bytes | None, etag: str, objects: S3Bucket) -> bool:
    """Whether it was still the one that was read."""
    if left is None:
        return await objects.delete(manifest, etag)
    return await objects.put_bytes(manifest, left, media_type(manifest), instead_of=etag)


async def _download(name: str, descriptor: int, objects: S3Bucket) -> None:
    """To the beginning of an open file. Raises FileNotFoundError."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if not await objects.get_to(name, descriptor):
        raise FileNotFoundError(name)
    os.lseek(descriptor, 0, os.SEEK_SET)
