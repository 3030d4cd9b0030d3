"""An image whose own file reserves it from training is not taken in, unless params.yaml says so."""

import pytest
from data_fixtures import encoded, folder, gather, index, pixels, png, refused

from components.decode.reserved import reserved

PLUS = b"DMI-PROHIBITED-AIMLTRAINING"
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"
 plus:DataMining="http://ns.useplus.org/ldf/vocab/%s"/></rdf:RDF></x:xmpmeta>"""


def told(kind, value=PLUS, **options):
    return encoded(pixels(3, 32), kind, xmp=XMP % value, **options)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "HEIF", "TIFF", "PNG"])
def test_iptc_s_property_is_seen_in_every_format_that_carries_xmp(kind):
    if kind == "TIFF":
        data = encoded(pixels(3, 32), kind, tiffinfo={700: XMP % PLUS})
    elif kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", (XMP % PLUS).decode())
        data = encoded(pixels(3, 32), kind, pnginfo=info)
    else:
        data = told(kind)
    assert reserved(data) == "IPTC DataMining: DMI-PROHIBITED-AIMLTRAINING"


@pytest.mark.parametrize(("words", "found"), [
    (XMP % b"DMI-ALLOWED", ""), (XMP % b"DMI-UNSPECIFIED", ""),
    (XMP % b"DMI-PROHIBITED", "IPTC DataMining: DMI-PROHIBITED"),
    (b"<tdm:reservation>1</tdm:reservation>", "tdm:reservation 1"), (b'<x tdm:reservation="1"/>', "tdm:reservation 1"),
    (b'<x tdm:reservation="0"/>', ""), (b'<x tdm:reservation="10"/>', ""),
    (b"\x78\x1cc2pa.ai_generative_training\xa1cuse\x6anotAllowed", "c2pa.ai_generative_training: notAllowed"),
    (b"\x78\x1cc2pa.ai_generative_training\xa1cuse\x67allowed", ""),
    (b"\x73cawg.ai_training\xa1cuse\x6anotAllowed", "cawg.ai_training: notAllowed"),
    (b"c2pa.ai_training\xa1cuse\x67allowed\x70c2pa.ai_inference\xa1cuse\x6anotAllowed", ""),
    (b"c2pa.ai_inference\xa1cuse\x6anotAllowed", ""),
])  # fmt: skip
def test_what_reserves_and_what_does_not(words, found):
    assert reserved(png(1) + words) == found


def test_a_reserved_image_is_listed_and_not_taken_in(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.jpg": told("JPEG")})
    metrics = gather(tmp_path)
    assert (metrics["items"], metrics["refused_opted_out"]) == (1, 1)
    assert refused(tmp_path) == {"b.jpg": "opted_out"}
    assert gather(tmp_path, opt_outs="ignore")["items"] == 2


def test_images_that_were_taken_in_are_looked_at_again_when_the_rule_changes(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.jpg": told("JPEG")})
    assert gather(tmp_path, opt_outs="ignore")["items"] == 2
    assert gather(tmp_path)["items"] == 1
    assert {row["source_key"]: row["member"] for row in index(tmp_path)} == {"a.png": True, "b.jpg": False}
