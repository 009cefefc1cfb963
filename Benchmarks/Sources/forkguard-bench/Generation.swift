import CBench
import ForkGuard
import Glibc

/// What it costs to ask whether this is still the same process.
func benchmarkGeneration() -> [Table] {
    let rounds = rounds(400)
    let mine = ForkGuard.generation, theirs = CCryptoBoringSSL_CRYPTO_get_fork_generation(), process = getpid()
    precondition(theirs != 0, "BoringSSL detects no forks here")
    // Sixteen in a row, so that it is the check that is measured and not the loop.
    let series = interleaved(
        rounds: rounds, calls: 2000,
        [
            ("ForkGuard.isCurrent", { calls in for _ in 0..<calls { sixteen { if !ForkGuard.isCurrent(mine) { forked() } } } }),
            (
                "a plain atomic load and compare",
                { calls in for _ in 0..<calls { sixteen { if !bench_is_plain_generation(1) { forked() } } } }
            ),
            (
                "BoringSSL's CRYPTO_get_fork_generation",
                { calls in for _ in 0..<calls { sixteen { if CCryptoBoringSSL_CRYPTO_get_fork_generation() != theirs { forked() } } } }
            ),
            ("getpid", { calls in for _ in 0..<calls { sixteen { if getpid() != process { forked() } } } }),
        ])
    let goals = [1: 1.2, 3: 1.0 / 200]
    let ours = series[0]
    return [
        Table(
            title: "Generation check", method: "compared and branched upon; medians of \(rounds) rounds of 32,000 each, in turns",
            rows: (1...3).map { index in
                let peer = series[index]
                return Row(ours.name, ours.median / 16, "ns", peer: peer.name, ratio: ours.ratio(to: peer), goal: goals[index])
            } + series.dropFirst().map { Row($0.name, $0.median / 16, "ns") })
    ]
}

@inline(__always)
private func sixteen(_ check: () -> Void) {
    check(); check(); check(); check(); check(); check(); check(); check()
    check(); check(); check(); check(); check(); check(); check(); check()
}

private func forked() -> Never { fatalError("this process was forked") }
