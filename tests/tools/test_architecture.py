"""The diagram of the student says what the network is."""

import xml.etree.ElementTree as xml

import architecture

from gsoc_kd.networks import ConvGenerator


def test_every_layer_of_the_network_stands_in_the_diagram_with_its_channels():
    config = ConvGenerator(24, 10, 32, widths=(12, 10, 8, 6), embed_dim=5, rank=7).config
    texts = [element.text for element in xml.fromstring(architecture.diagram(config)).iter() if element.text]
    assert [text for text in texts if " x " in text] == [
        "by 7 to 12 x 4 x 4", "10 x 8 x 8", "8 x 16 x 16", "6 x 32 x 32", "3 x 32 x 32"]  # fmt: skip
    assert "24 + 5" in texts and texts.count("up block") == 3


def test_without_a_bottleneck_none_is_drawn():
    assert "by " not in architecture.diagram(ConvGenerator(24, 10, 8, widths=(4, 4)).config)
