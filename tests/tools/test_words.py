"""tools/words.py: the words that pages and code agree on."""

import words


def test_every_text_of_the_project_says_one_word_for_one_thing():
    assert [line for path in words.files() for line in words.wrong(words.text_of(path), path.name)] == []


def test_a_word_that_is_to_be_another_is_named_with_its_line_and_the_better_one():
    text = "An image.\nThe judge sees a Picture, `class_agreement` and a film_strip; a judgement and microfilms stay."
    assert list(words.wrong(text, "page.md")) == [
        "page.md:2: 'judge', better: evaluation classifier",
        "page.md:2: 'Picture', better: image, sample",
        "page.md:2: 'class_agreement', better: class accuracy",
        "page.md:2: 'film', better: training animation",
    ]
