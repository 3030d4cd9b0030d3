"""Many small pictures as one: a sheet in the page's style, cells cut from it by their position.

A picture costs no request and no header: 512 thumbnails come as one WebP in one data address, which a browser
decodes when the first of its cells comes into sight.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

from PIL import Image

from components.html.page import Safe, el

COLUMNS = 32
SHEET = COLUMNS * 16  # cells; as few as one look at the page needs, as many as share a header well
_PROBE = 2 * COLUMNS  # cells that decide between a lossless and a lossy sheet
_LOSSLESS = {"lossless": True, "quality": 60}  # WebP's effort, not its loss

_TALL = (
    "--t:{shown}px;height:var(--t);background-size:calc(var(--w)*var(--s)) calc(var(--h)*var(--t));"
    "background-position:calc(var(--c)*-1*var(--s)) calc(var(--r)*-1*var(--t));"
)


@dataclass
class Sprites:
    """Sheets of cells ``width`` x ``height`` pixels, shown ``scale`` times as large.

    ``exact`` keeps every pixel and shows it with hard edges (what a model sees); otherwise the smaller of a
    lossless sheet and a lossy one of WebP ``quality`` (1 to 100) is taken (thumbnails of sources).
    """

    name: str
    width: int
    height: int = 0
    """0 for square cells."""
    scale: int = 1
    exact: bool = True
    quality: int = 80
    shown: int = 0
    """CSS pixels of a cell's width; 0 for ``width`` times ``scale``."""
    _images: dict[str, Image.Image | None] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def cell_size(self) -> tuple[int, int]:
        """Width and height of a cell, as Pillow has them."""
        return self.width, self.height or self.width

    def add(self, key: str, image: Image.Image) -> None:
        """Keep ``image`` under ``key``; once for each key."""
        if key not in self._images:
            self.reserve(key)
            self.fill(key, image)

    def reserve(self, key: str) -> None:
        """Keep a cell for ``key``, to be filled before ``css`` is called."""
        self._numbers.setdefault(key, len(self._numbers))
        self._images.setdefault(key, None)

    def fill(self, key: str, image: Image.Image) -> None:
        """Put ``image``, shrunk to fit, in the middle of the cell reserved for ``key``."""
        width, height = self.cell_size
        if image.width > width or image.height > height:
            image = image.copy()
            image.thumbnail((width, height), Image.Resampling.LANCZOS)
        self._images[key] = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")

    def cell(self, key: str, alt: str) -> Safe:
        """The element that shows the picture kept under ``key``; ``alt`` says what it is."""
        soft = "" if self.exact else " soft"
        return el("span", class_=f"px{soft} {self.sheet(key)}", role="img", title=alt, style=self.position(key))

    def sheet(self, key: str) -> str:
        """The class of the sheet that holds ``key``."""
        return f"{self.name}{self._numbers[key] // SHEET}"

    def position(self, key: str) -> str:
        """The style that picks ``key`` from its sheet: column and row."""
        row, column = divmod(self._numbers[key] % SHEET, COLUMNS)
        return f"--c:{column};--r:{row}"

    def css(self) -> str:
        """The rules that carry the sheets: ``--s`` is a cell's width, ``--w`` and ``--h`` count the sheet's cells."""
        shown = self.shown or self.width * self.scale
        width, height = self.cell_size
        # The page's style has square cells; this rule comes after it.
        tall = "" if height == width else _TALL.format(shown=f"{shown * height / width:g}")
        rules = []
        for sheet in range(-(-len(self._images) // SHEET)):
            images = list(self._images.values())[sheet * SHEET : (sheet + 1) * SHEET]
            columns, rows = min(len(images), COLUMNS), -(-len(images) // COLUMNS)
            data = base64.b64encode(self._encode(images)).decode()
            rules.append(
                f".{self.name}{sheet}{{--s:{shown}px;--w:{columns};--h:{rows};{tall}"
                f"background-image:url(data:image/webp;base64,{data})}}\n"
            )
        return "".join(rules)

    def _encode(self, images: list[Image.Image | None]) -> bytes:
        if self.exact:
            return _webp(self._sheet(images), **_LOSSLESS)
        # Encoding thousands of cells twice takes longer than making them: the first ones decide for all.
        lossy, first = {"quality": self.quality}, self._sheet(images[:_PROBE])
        found = {len(_webp(first, **options)): options for options in (lossy, _LOSSLESS)}
        return _webp(self._sheet(images), **found[min(found)])

    def _sheet(self, images: list[Image.Image | None]) -> Image.Image:
        columns, rows = min(len(images), COLUMNS), -(-len(images) // COLUMNS)
        width, height = self.cell_size
        sheet = Image.new("RGBA", (columns * width, rows * height), (0, 0, 0, 0))
        for at, image in enumerate(images):
            if image is None:
                continue
            row, column = divmod(at, columns)
            left, top = (width - image.width) // 2, (height - image.height) // 2
            sheet.paste(image, (column * width + left, row * height + top))
        return sheet


def _webp(sheet: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", method=2, **options)  # 4 takes twice the time for a page that is 4 % smaller
    return stream.getvalue()


def blank(shown: int, reason: str, alt: str) -> Safe:
    """A frame in place of a picture that cannot be shown, with the reason in it; ``shown`` CSS pixels square."""
    return el("span", reason, class_="none", role="img", aria_label=f"{alt}: not shown, {reason}",
              title=alt, style=f"width:{shown}px;height:{shown}px")  # fmt: skip
