from loadtest.pairs import Segment, about, pairs_of, turned_aspects


def segment(name: str, shape: str, colour: str, *, sound: str = "", aspect: str = "") -> Segment:
    captions = {"object": f"a {shape}", "colour": f"a {colour} thing"}
    attributes = {"object": {"shape": shape}, "colour": {"colour": colour}}
    if sound:
        captions["sound"] = sound
    if aspect:
        attributes["speech"] = {"aspect": aspect}
    return Segment(f"{name}-000000000", name, captions, attributes)


def test_a_pair_is_of_look_alikes_and_of_words_about_the_one_that_is_right() -> None:
    heard = segment("a", "star", "red", sound="a bell")
    other = segment("b", "star", "blue", sound="a drum")
    alike = segment("c", "star", "red")
    (pair,) = pairs_of([heard, other, alike])
    assert (pair.right, pair.like, pair.words) == (heard, alike, "a bell")


def test_a_segment_whose_look_is_not_told_has_no_look_alike() -> None:
    bare = [Segment(f"{n}-000000000", n, {"sound": "a bell"}, {}) for n in "ab"]
    assert pairs_of(bare) == []


def test_only_aspects_that_are_spoken_of_are_turned_away() -> None:
    (turned,) = turned_aspects([segment("a", "star", "red", aspect="bread/kneading")])
    assert (turned.topic, turned.aspect) == ("bread", "bread/kneading")
    assert turned.topic_words == "baking"
    assert turned.away == "kneading bread dough"


def test_the_share_about_a_topic_counts_all_its_aspects() -> None:
    said = ["bread/kneading", "bread/oven", "breadth/oven", ""]
    assert about(said, "bread") == 0.5
    assert about(said, "bread/oven") == 0.25
    assert about([], "bread") == 0
