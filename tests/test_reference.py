"""The reference page says what the code says."""

from vegflow.reference import PAGE, page


def test_the_page_is_what_the_code_gives():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m vegflow.reference"


def test_every_key_of_a_study_is_described():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    undescribed = [row.split("|")[1].strip() for row in rows if not row.rsplit("|", 2)[1].strip()]
    assert undescribed == []
