"""Whether a file says of itself that its picture may not be used to train models; its bytes are searched, not parsed.

What is understood: the property DataMining of IPTC's photo metadata (2023.1, PLUS's vocabulary), TDM Reservation
(W3C's community report, 2024) in XMP, and the training and data mining assertions of C2PA (2.1; CAWG's since).  XMP
lies in a JPEG, WebP, TIFF, AVIF, HEIC and PNG as plain text; a packed copy of it is not seen.
"""

from __future__ import annotations

import re

_PLUS = re.compile(rb"DMI-PROHIBITED[A-Z-]{0,60}")
_TDM = re.compile(rb"tdm:reservation(?:\s*=\s*[\"']|>)\s*1\s*[\"'<]")
_C2PA = re.compile(
    rb"((?:c2pa|cawg)\.(?:ai_generative_training|ai_training|data_mining))(?:(?!c2pa\.|cawg\.|allowed).){0,200}?notAllowed",
    re.DOTALL,
)


def reserved(data: bytes) -> str:
    """What in the file ``data`` reserves its picture from training, such as a value of IPTC; "" where nothing does."""
    if found := _PLUS.search(data):
        return f"IPTC DataMining: {found[0].decode()}"
    if _TDM.search(data):
        return "tdm:reservation 1"
    if found := _C2PA.search(data):
        return f"{found[1].decode()}: notAllowed"
    return ""
