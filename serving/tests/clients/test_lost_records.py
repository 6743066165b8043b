"""Records that are gone though their numbers leave no gap: `usage verify` tells, by what the journal noted."""

from conftest import start, stop
from test_ledger import ask, assert_summed, cards, check, segments  # noqa: F401


def small(folder, kept):
    path = folder / f"kept-{kept}.toml"
    path.write_text(f"[usage]\nsegment_bytes_max = 4096\nshipped_segments_kept = {kept}\n")
    return ["--config", str(path)]


def test_lost_beginnings_and_ends_of_a_start(request, tmp_path, cards):  # noqa: F811
    options = small(tmp_path, 100)
    starts = []
    for _ in range(3):
        server = start(request, tmp_path, *options, cards=cards)
        before = set(segments(server.state))
        ask(server, 30)
        stop(server)
        starts.append(sorted(set(segments(server.state)) - before))
        assert len(starts[-1]) >= 2
    state = server.state
    assert check(request, state, "verify", *options)[0] == 0
    for gone, told in [(starts[0][-1], 1), (starts[1][0], 1), (starts[1][-1], 1), (starts[2][-1], 1), (starts[0][0], 1)]:
        aside = gone.rename(tmp_path / gone.name)
        code, said = check(request, state, "verify", *options)
        assert code == told and ("are missing" in said) == bool(told), f"{gone.name}: {said}"
        aside.rename(gone)
    assert check(request, state, "verify", *options)[0] == 0


def test_what_was_dropped_before_the_store_was_lost(request, tmp_path, cards):  # noqa: F811
    options = small(tmp_path, 1)
    server = start(request, tmp_path, *options, cards=cards)
    ask(server, 80)
    assert_summed(request, server, 80)
    stop(server)
    state = server.state
    assert int(segments(state)[0].stem) > 0, "the oldest are dropped"
    assert check(request, state, "verify", *options)[0] == 0, "nothing is lost yet"
    (state / "store.redb").unlink()
    for _ in range(2):
        server = start(request, tmp_path, *options, cards=cards)
        stop(server)
        code, said = check(request, state, "verify", *options)
        assert code == 1 and "for good" in said, said
    code, said = check(request, state, "repair", *options)
    assert code == 1 and "for good" in said, said
    assert check(request, state, "verify", *options)[0] == 1
