import CBench
import Glibc

/// What was measured of one variant, a value for each round.
struct Series {
    let name: String
    var values: [Double] = []

    init(_ name: String) { self.name = name }

    var median: Double { forkguard_bench.median(values) }

    /// The median of the ratios in each round: what slows a round down slows both.
    func ratio(to other: Series) -> Double { forkguard_bench.median(zip(values, other.values).map { $0 / $1 }) }
}

/// Measures `variants` in turns; who comes first changes from round to round. The first round warms up.
func interleaved(rounds: Int, _ variants: [(name: String, measure: () -> Double)]) -> [Series] {
    var series = variants.map { Series($0.name) }
    for round in 0...rounds {
        for turn in variants.indices {
            let index = (round + turn) % variants.count
            let value = variants[index].measure()
            if round > 0 { series[index].values.append(value) }
        }
    }
    return series
}

/// The same for calls: nanoseconds a call.
func interleaved(rounds: Int, calls: Int, _ variants: [(name: String, run: (Int) -> Void)]) -> [Series] {
    interleaved(
        rounds: rounds,
        variants.map { variant in
            (
                variant.name,
                {
                    let began = bench_nanoseconds()
                    variant.run(calls)
                    return Double(bench_nanoseconds() - began) / Double(calls)
                }
            )
        })
}

func median(_ samples: [Double]) -> Double {
    let sorted = samples.sorted()
    return sorted.count % 2 == 1 ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
}

/// The smallest value that at least this share of the samples does not exceed.
func percentile(_ share: Double, _ samples: [Double]) -> Double {
    let sorted = samples.sorted()
    return sorted[min(sorted.count - 1, Int((share * Double(sorted.count)).rounded(.up)) - 1)]
}

/// Keeps the process multi-threaded until it ends.
func startIdleThread() {
    var thread = pthread_t()
    pthread_create(&thread, nil, { _ in while true { pause() } }, nil)
}
