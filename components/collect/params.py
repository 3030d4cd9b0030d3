"""What section ``collect`` of params.yaml may say: several sources, each of a kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from components.base.params import Params, explained
from components.collect.web.url import holds_secret


class _Source(Params):
    """What every kind of source says."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("text_column", "label_column", "group_column")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="what the source is called in every table: 1..100 letters, digits, '.', '_' or '-', and unique",
    )
    location: str = Field(min_length=1, max_length=4096, description="path from the project's folder or absolute, or an"
                          " address such as s3://bucket/prefix; credentials come from the environment")  # fmt: skip
    licence: str = Field(min_length=1, max_length=200, description="SPDX name of the images' licence, or a few words")
    matte: str = Field(
        pattern=r"^#[0-9a-f]{6}$", description="what shows through transparent pixels, #rrggbb in lower case"
    )
    text_column: str | None = Field(description="column with captions, null for none")
    label_column: str | None = Field(
        description="column with labels; null for none, which for kind files means the folder's name"
    )
    group_column: str | None = Field(
        description="column whose equal values keep images together in one split, null for none"
    )

    @field_validator("location")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        try:
            parts = urlsplit(value) if "://" in value else None
        except ValueError:
            raise explained("is no address that can be understood") from None
        # Each version of the model keeps params.yaml: a secret in it would be published.
        if parts and (parts.password or holds_secret(parts.query)):
            raise explained("holds credentials: put them into the environment and take them out")
        return value


class FilesSource(_Source):
    """A folder or an archive, here or in a store, with captions in metadata.csv or metadata.jsonl."""

    kind: Literal["files"] = Field(description="files: a folder, zip, tar, tar.gz, tar.bz2, tar.xz or tar.zst")


class UrlsSource(_Source):
    """A list of addresses, which are downloaded once."""

    kind: Literal["urls"] = Field(description="urls: a list of http(s) addresses: csv, jsonl, parquet or txt")
    url_column: str | None = Field(description="column with the addresses, null for a txt with one a line")
    seconds: float = Field(gt=0, le=86400, description="seconds that one whole body may take, above 0 to 86,400")
    attempts: int = Field(ge=1, le=20, description="tries of one address in one look, 1..20")
    private: bool = Field(description="whether loopback, private and link-local addresses may be reached")
    obey: bool = Field(
        description="whether robots.txt, X-Robots-Tag (noai, noimageai) and tdm-reservation are honoured"
    )


class ParquetSource(_Source):
    """Parquet files that hold the images' bytes, as Hugging Face `datasets` writes them."""

    kind: Literal["parquet"] = Field(description="parquet: one file, or a folder of *.parquet")
    image_column: str = Field(
        min_length=1, description="column with the images: binary, or a struct of bytes and path (Hugging Face)"
    )


class WebdatasetSource(_Source):
    """Tar shards whose members belong together by what stands before the first dot of their names."""

    kind: Literal["webdataset"] = Field(
        description="webdataset: one tar, or a folder of them; columns are extensions (txt, cls) or json.KEY"
    )


AnySource = Annotated[FilesSource | UrlsSource | ParquetSource | WebdatasetSource, Field(discriminator="kind")]


class CollectParams(Params):
    """Where the images are and what is said about them."""

    max_bytes: int = Field(ge=1024, le=2**30, description="bytes of the largest file taken in, 1024..2**30")
    notes: Literal["keep", "strip"] = Field(
        description="strip: what a file says beside its picture (where and when it was taken, by whom) is taken out "
        "before it is stored; a kind for which that is not known is not taken in; keep: files are stored as they are"
    )
    opt_outs: Literal["refuse", "ignore"] = Field(
        description="refuse: an image whose own file reserves it from training (IPTC DataMining, TDM, C2PA) is not "
        "taken in; ignore: it is"
    )
    sources: tuple[AnySource, ...] = Field(min_length=1, description="where the images come from, one or more")

    @field_validator("sources")
    @classmethod
    def _unique(cls, sources: tuple[_Source, ...]) -> tuple[_Source, ...]:
        names = [source.name.lower() for source in sources]  # each is a folder's name too, on any file system
        for at, name in enumerate(names):
            if name in names[:at]:
                raise explained("has two sources called '{name}': give each its own", name=sources[at].name)
        return sources
