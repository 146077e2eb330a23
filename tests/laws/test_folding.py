"""Case folding over all of Unicode: where the two readings of a name (SPEC 3.1) part.

Postfix folds case in every table by Unicode's full case folding, DNS does not. If a new Unicode brought a fourth letter
on which the two disagree, it would be found here, before somebody finds it in the mail.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.policy.names import canonical, is_plain

SURROGATES = range(0xD800, 0xE000)


def folding_code_points() -> Iterator[str]:
    """Every character that case folding changes; of all others both readings are the same text."""
    for code_point in range(0x110000):
        if code_point not in SURROGATES and chr(code_point).casefold() != chr(code_point):
            yield chr(code_point)


def parting() -> set[str]:
    """The characters c for which `aca` is a domain, `aca` casefolded is one too, and another one."""
    found = set()
    for character in folding_code_points():
        label = f"a{character}a"
        as_it_stands, folded = canonical(label), canonical(label.casefold())
        if as_it_stands is not None and folded is not None and as_it_stands != folded:
            found.add(character)
    return found


def test_only_sharp_s_and_final_sigma_have_two_readings() -> None:
    assert parting() == {"ß", "ẞ", "ς"}


def test_one_reading_alone_is_never_a_domain() -> None:
    """Folding neither makes a name of what is none nor the other way round, within the length of a label."""
    for character in folding_code_points():
        label = f"a{character}a"
        assert (canonical(label) is None) == (canonical(label.casefold()) is None), hex(ord(character))


def test_folding_moves_no_boundary() -> None:
    """No character folds into an `@` or a dot, nor from one: domain and labels are found before folding as after."""
    for character in folding_code_points():
        assert not set("@.\u3002\uff0e\uff61") & {character, *character.casefold()}, hex(ord(character))


def test_folding_twice_is_folding_once() -> None:
    for character in folding_code_points():
        assert character.casefold().casefold() == character.casefold()


def test_what_postfix_folds_to_the_name_is_plain() -> None:
    """Every character that folds into one ASCII letter is plain in its place: capitals, long s, the Kelvin sign."""
    odd = [c for c in folding_code_points() if len(c.casefold()) == 1 and c.casefold().isascii()]
    assert {"A", "Z", "ſ", "\u212a"} <= set(odd)
    for character in odd:
        assert canonical(f"a{character}a") == f"a{character.casefold()}a"
        assert is_plain(f"a{character}a.example", f"a{character.casefold()}a.example"), hex(ord(character))
