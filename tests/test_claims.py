"""Claims are data: what can be written, and that it means what it says."""

import pytest
import yaml

from segattn.analysis.claims import Term, claims_path, load_claims, parse_condition


def test_a_condition_is_a_sum_of_signed_scores_above_a_threshold():
    read = parse_condition(" large(danet) - large(fcn) + thin(fcn)-thin(danet) > -1.5 ")
    assert read.threshold == -1.5
    assert read.heads == ["danet", "fcn"]
    assert read.terms == (
        Term(1, "large", "danet"),
        Term(-1, "large", "fcn"),
        Term(1, "thin", "fcn"),
        Term(-1, "thin", "danet"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("large(danet) - large(fcn)", "write `measure"),
        ("large(danet) - large(fcn) < 0", "write `measure"),
        ("2 * large(danet) - large(fcn) > 0", "write `measure"),
        ("huge(danet) - large(fcn) > 0", "unknown H9: measure 'huge'.*small_or_thin"),
        ("large(dannet) - large(fcn) > 0", "unknown H9: head 'dannet'.*danet"),
        ("large(danet) > 0", "as many scores as it adds"),
    ],
)
def test_a_condition_that_cannot_be_read_is_named(text, message):
    with pytest.raises(ValueError, match=f"H9.*{message}|{message}"):
        parse_condition(text, where="H9")


def test_the_five_claims_of_the_paper():
    claims = load_claims(claims_path())
    assert [claim.name for claim in claims.claims] == ["H1", "H2", "H3", "H4", "H5"]
    assert claims.alpha == 0.05
    by_name = {claim.name: claim for claim in claims.claims}
    # the comparator is every other head: none is picked after the runs
    others = {"channel_nl", "spatial_nl", "danet", "cs_nl"}
    for measure, threshold in (("small", -1), ("thin", -1), ("large", -1), ("mIoU", 0)):
        found = {
            c.terms[1].head
            for c in by_name["H5"].conditions
            if c.terms[0] == Term(1, measure, "fla") and c.threshold == threshold
        }
        assert found == others
    assert claims.smallest(by_name["H3"].conditions[0]) == 0.5
    assert claims.smallest(by_name["H1"].conditions[0]) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 2}, "alpha must be between 0 and 1, got 2"),
        ({"level": 1}, "must hold"),
        ({"smallest_effect": {"mIoU": 1}}, "smallest_effect must hold"),
        ({"claims": {"H9": {"text": "t", "conditions": []}}}, "H9 needs at least one"),
        ({"claims": {"H9": {"text": "t"}}}, "H9 must hold"),
        ({"claims": {"H9": {"text": "t", "conditions": ["x"]}}}, "H9: cannot read 'x'"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, change, message):
    content = yaml.safe_load(claims_path().read_text()) | change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message) as refusal:
        load_claims(path)
    assert str(path) in str(refusal.value)
