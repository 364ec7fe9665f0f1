import copy
import math
import pickle

import numpy as np
import pytest
import torch
from label_maps import BINS, NUM_CLASSES, assemble, batch, samples, update_arguments
from torch import distributed, multiprocessing
from torchmetrics.classification import MulticlassConfusionMatrix

from segattn.metrics import GROUPS, SizeBins, SizeStratifiedIoU, nearest_owner

RADII = [0, 1.5, 4, 9]


def metric(*, radius=4.0, bins=BINS):
    return SizeStratifiedIoU(NUM_CLASSES, num_bins=bins.num_bins, radius=radius)


def updated(*batches, radius=4.0, bins=BINS):
    result = metric(radius=radius, bins=bins)
    for item in batches:
        result.update(*update_arguments(*item, bins=bins))
    return result


def states(of):
    return {name: value.clone() for name, value in of.metric_state.items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def confusion(preds, target):
    matrix = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255)
    return matrix(preds, target)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("bins", [BINS, SizeBins(stride=1, size_edges=(3, 20), elongation=1.5)])
def test_bins_sum_to_the_confusion_matrix(radius, bins):
    for seed in range(3):
        item = batch(seed)
        counts = updated(item, radius=radius, bins=bins).counts()
        expected = confusion(item[0], item[1])
        assert torch.equal(counts.area.sum(1), expected.sum(1))
        assert torch.equal(counts.tp.sum(1), expected.diagonal())
        false = (counts.fp + counts.fp_far).sum(1)
        assert torch.equal(false, expected.sum(0) - expected.diagonal())


def test_class_iou_is_the_ordinary_iou():
    item = batch(0)
    expected = confusion(item[0], item[1]).double()
    hit = expected.diagonal()
    scores = updated(item).compute()
    assert torch.equal(scores["class_iou"], hit / (expected.sum(0) + expected.sum(1) - hit))
    assert scores["miou"] == scores["class_iou"].mean()


@pytest.mark.parametrize("radius", RADII)
def test_bounds_hold(radius):
    scores = updated(batch(1), radius=radius).compute()
    ordered = torch.stack([scores[k] for k in ("iou_lower", "iou", "iou_near", "recall")])
    ordered = ordered[:, scores["support_px"] > 0]
    assert ordered.shape[1] > NUM_CLASSES
    assert (ordered.diff(dim=0) >= 0).all()
    assert (ordered.diff(dim=0) > 0).any()


def test_owned_false_positives_grow_with_the_radius():
    item = batch(2)
    rows = [updated(item, radius=radius).rows for radius in RADII]
    owned = torch.cat([row.fp for row in rows], dim=1)
    assert (owned.diff(dim=1) >= 0).all()
    assert (owned.diff(dim=1).sum(0) > 0).all()
    assert owned[:, 0].sum() == 0


def test_batching_order_and_forward_do_not_matter():
    images = samples(3, num_images=4)
    singles = [assemble([image]) for image in images]
    whole = states(updated(assemble(images)))
    assert same(states(updated(*singles)), whole)
    assert same(states(updated(*singles[::-1])), whole)

    forwarded = metric()
    for item in singles:
        of_batch = forwarded(*update_arguments(*item))
    assert same(states(forwarded), whole)
    assert forwarded.n_images == 4
    last = updated(singles[-1])
    assert torch.equal(of_batch["support_px"], last.area)
    assert torch.equal(forwarded.rows.tp, last.rows.tp)


def _shard(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    part = updated(batch(10 + rank, num_images=1 + rank))
    scores = part.compute()
    with part.sync_context():
        torch.save((states(part), scores), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(_shard, args=(str(tmp_path),), nprocs=2)
    one = updated(batch(10, num_images=1), batch(11, num_images=2))
    for rank in range(2):
        summed, scores = torch.load(tmp_path / f"{rank}.pt")
        assert same(summed, states(one))
        for name, value in one.compute().items():
            assert torch.equal(scores[name].nan_to_num(-1), value.nan_to_num(-1)), name


@pytest.mark.parametrize("radius", RADII)
def test_owner_is_the_nearest_object_by_brute_force(radius):
    preds, target, truth, _ = batch(4, num_images=2)
    fp_index, owner, distance = nearest_owner(preds, target=target, ids=truth.ids, radius=radius)
    wrong = ((preds != target) & (target != 255)).flatten().nonzero().squeeze(1)
    assert torch.equal(fp_index, wrong)
    found = (fp_index.tolist(), owner.tolist(), distance.tolist())
    for flat, got, squared in zip(*found, strict=True):
        n, y, x = np.unravel_index(flat, target.shape)
        offsets = (target[n] == preds[n, y, x]).nonzero() - torch.tensor([y, x])
        nearest = min(((dy * dy + dx * dx, dy, dx) for dy, dx in offsets.tolist()), default=None)
        if nearest is None or nearest[0] > radius**2:
            assert (got, squared) == (-1, 1 << 62)
        else:
            assert squared == nearest[0]
            assert got == truth.ids[n, y + nearest[1], x + nearest[2]]


def test_renaming_the_classes_renames_the_states():
    preds, target, truth, predicted = batch(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    renamed = torch.cat([order, torch.arange(NUM_CLASSES, 256)])
    before = metric()
    before.update(*update_arguments(preds, target, truth, predicted))
    after = metric()
    after.update(*update_arguments(renamed[preds], renamed[target], truth, predicted))
    for name, value in states(before).items():
        expected = value if name == "n_images" else value[order.argsort()]
        assert torch.equal(after.metric_state[name], expected), name


def test_a_perfect_prediction_scores_one():
    perfect = [(m, np.where(m == 255, 0, m), ids) for m, _, ids in samples(6)]
    scores = updated(assemble(perfect)).compute()
    present = scores["support_px"] > 0
    for name in ("iou", "iou_near", "iou_lower", "recall"):
        assert (scores[name][present] == 1).all()
        assert scores[name][~present].isnan().all()
    assert (scores["obj_iou"][scores["support_obj"] > 0] == 1).all()
    assert scores["orphan_fp"].sum() == 0
    assert (scores["miou"], scores["far_rate"].nansum()) == (1, 0)


def test_void_alone_scores_nothing():
    tracked = updated(assemble([(np.full((9, 9), 255), np.zeros((9, 9), int), None)]))
    scores = tracked.compute()
    for name in ("iou", "obj_iou", "class_iou", "miou_per_bin", "miou", "far_rate"):
        assert scores[name].isnan().all(), name
    assert tracked.n_images == 1


def test_a_class_without_ground_truth_costs_its_class_alone():
    labels, preds = np.zeros((2, 40, 40), int)
    preds[:5, :5] = 2
    scores = updated(assemble([(labels, preds, None)])).compute()
    assert scores["iou"][2].isnan().all()
    assert scores["class_iou"][2] == 0
    assert scores["orphan_fp"][2].tolist() == [25, 0, 0, 0, 0, 0]
    assert scores["far_rate"][2] == 1


SMALL, LARGE = (slice(20, 36), slice(20, 36)), (slice(100, 228), slice(250, 378))
# What the small object owns of a blob whose corner touches its own: a strip and a quarter disc.
GLUED = 16 * 16 + sum(math.isqrt(16**2 - k**2) for k in range(1, 17))
CASES = {
    "small one grown": ((slice(12, 44), slice(12, 44)), 256 / 1024, 1, 0),
    "large one too wide": ((slice(100, 228), slice(242, 386)), 1, 128 / 144, 0),
    "far hallucination": ((slice(240, 290), slice(20, 140)), 1, 1, 6000),
    "large blob glued to the small one": (
        (slice(20, 140), slice(36, 136)),
        256 / (256 + GLUED),
        128**2 / (128**2 + 12000 - GLUED),
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_false_positives_go_where_they_belong(case):
    added, small, large, orphans = CASES[case]
    labels = np.zeros((300, 420), int)
    labels[SMALL] = labels[LARGE] = 1
    preds = labels.copy()
    preds[added] = 1
    scores = updated(assemble([(labels, preds, None)]), radius=16, bins=SizeBins()).compute()
    assert scores["iou"][1, [0, 4]].tolist() == [small, large]
    assert scores["recall"][1, [0, 4]].tolist() == [1, 1]
    assert scores["orphan_fp"][1].sum() == orphans


def test_object_means_leave_out_specks():
    labels, preds = np.zeros((2, 40, 40), int)
    labels[:4, :4] = labels[20:24, :4] = preds[:4, :4] = 1  # one of two found
    labels[35, 35] = 1  # missed, but a speck
    preds[4:8, :4] = 1  # as many false pixels as the found one has
    scores = updated(assemble([(labels, preds, None)])).compute()
    assert scores["support_obj"][1].sum() == 2
    assert (scores["obj_iou"][1, 0], scores["obj_recall"][1, 0]) == (0.25, 0.5)
    assert scores["support_px"][1].sum() == 33


def test_merged_bins_are_bins():
    joint = updated(batch(7)).counts()
    merged = joint.merge(GROUPS)
    sizes = joint.merge({"small": (0, 1), "medium": (2, 3), "large": (4, 5)})
    assert merged.tp.shape == (NUM_CLASSES, len(GROUPS))
    assert torch.equal(merged.area[:, :3], joint.area.view(NUM_CLASSES, 3, 2).sum(-1))
    assert torch.equal(merged.area[:, 4], joint.area[:, 1::2].sum(1))
    # Overlapping groups must not count a false positive twice in the lower bound.
    for name in ("iou", "iou_lower", "obj_iou"):
        assert torch.equal(
            merged.scores()[name][:, :3].nan_to_num(-1), sizes.scores()[name].nan_to_num(-1)
        )
    for name in ("class_iou", "miou", "far_rate"):
        assert torch.equal(merged.scores()[name], joint.scores()[name])


def test_logits_are_decided_by_their_largest():
    item = batch(8)
    logits = torch.nn.functional.one_hot(item[0], NUM_CLASSES).movedim(-1, 1).float()
    assert same(states(updated((logits, *item[1:]))), states(updated(item)))


def test_integer_dtype_does_not_matter():
    preds, target, *objects = item = batch(8)
    small = (preds.to(torch.uint8), target.to(torch.uint8), *objects)
    assert same(states(updated(small)), states(updated(item)))


def test_survives_pickle_copy_reset_and_inference_mode():
    item = batch(9)
    original = updated(item)
    for twin in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original), original.clone()):
        assert same(states(twin), states(original))
        assert torch.equal(twin.rows.fp, original.rows.fp)
        twin.update(*update_arguments(*item))
        assert twin.n_images == 2 * original.n_images
    with torch.inference_mode():
        original.reset()
        assert original.rows is None
        original.update(*update_arguments(*item))
    original.update(*update_arguments(*item))
    assert same(states(original), states(updated(item, item)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"preds": a["preds"][:, :-1]}, "share one shape"),
        (lambda a: {"preds": a["preds"][:, None].float()}, r"logits must be \[N, 5, H, W\]"),
        (lambda a: {"preds": a["preds"] + 1}, r"preds must hold classes 0\.\.4, got 1\.\.5"),
        (lambda a: {"target": a["target"].clamp(max=5)}, r"target must hold .* got 0\.\.5"),
        (lambda a: {"ids": a["ids"].clamp(min=0)}, "-1 exactly where target is void"),
        (lambda a: {"obj_bin": a["obj_bin"][:-1]}, "ids must hold"),
        (lambda a: {"pred_bin": a["pred_bin"][:-1]}, "pred_ids must hold"),
        (lambda a: {"pred_ids": a["pred_ids"] - 1}, r"pred_ids must hold .* got -1"),
        (lambda a: {"obj_bin": a["obj_bin"] + 6}, r"bins of ids must be 0\.\.5"),
    ],
)
def test_input_that_does_not_fit_is_refused(change, message):
    names = ("preds", "target", "ids", "obj_bin", "pred_ids", "pred_bin")
    arguments = dict(zip(names, update_arguments(*batch(0)), strict=True))
    tracked = metric()
    with pytest.raises(ValueError, match=message):
        tracked.update(**(arguments | change(arguments)))
    assert tracked.area.sum() == 0


@pytest.mark.parametrize("settings", [{"num_bins": 0, "radius": 1}, {"num_bins": 6, "radius": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="got"):
        SizeStratifiedIoU(NUM_CLASSES, **settings)


@pytest.mark.gpu
def test_the_device_does_not_matter():
    preds, target, truth, predicted = batch(0)
    moved = metric().to("cuda")
    there = (preds.cuda(), target.cuda(), truth.to("cuda"), predicted.pin_memory().to("cuda"))
    moved.update(*update_arguments(*there))
    on_host = {name: value.cpu() for name, value in moved.metric_state.items()}
    assert same(on_host, states(updated((preds, target, truth, predicted))))
