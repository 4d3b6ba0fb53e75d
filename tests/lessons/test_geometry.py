from striate.lessons import teach


def test_dilation_spans_five_and_nine_not_seven_and_fifteen():
    numbers = teach("dilation").numbers
    extents = [facts["extent"] for facts in numbers["one layer"].values()]
    assert extents == [3, 5, 7, 9]
    assert all(facts["taps"] == 9 for facts in numbers["one layer"].values())
    assert numbers["stack of dilations 1, 2, 4: measured"] == [3, 7, 15]
    assert numbers["stack of dilations 1, 2, 4: formula"] == [3, 7, 15]


def test_padding_values_the_border():
    numbers = teach("padding").numbers
    assert numbers["valid"] == {"corner": 1, "edge": 3, "inside": 9}
    assert numbers["same"] == {"corner": 4, "edge": 6, "inside": 9}
    assert numbers["full"] == {"corner": 9, "edge": 9, "inside": 9}
    assert numbers["size behind, of 28"] == {"valid": 26, "same": 28, "full": 30}
