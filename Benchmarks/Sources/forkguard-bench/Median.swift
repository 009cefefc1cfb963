import CBench
import Glibc

/// Keeps the process multi-threaded until it ends.
func startIdleThread() {
    var thread = pthread_t()
    pthread_create(&thread, nil, { _ in while true { pause() } }, nil)
}

/// Times `variants` in turns; returns each one's median in nanoseconds a call.
func interleaved(rounds: Int, calls: Int, _ variants: [(name: String, run: (Int) -> Void)]) -> [Double] {
    var samples = [[Double]](repeating: [], count: variants.count)
    for round in 0..<rounds + 1 {
        for (index, variant) in variants.enumerated() {
            let began = bench_nanoseconds()
            variant.run(calls)
            let nanoseconds = Double(bench_nanoseconds() - began) / Double(calls)
            if round > 0 { samples[index].append(nanoseconds) }
        }
    }
    return samples.map(median)
}

func median(_ samples: [Double]) -> Double {
    let sorted = samples.sorted()
    return sorted.count % 2 == 1 ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
}

func rounded(_ value: Double, places: Int = 2) -> String {
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    return "\((value * scale).rounded() / scale)"
}
