import CBench
import ForkGuard
import Glibc
import NIOConcurrencyHelpers
import Synchronization

/// Threads that hammer one lock: how many sections a second all of them get through together.
func benchmarkContended() {
    let rounds = 40, nanoseconds: UInt64 = 25_000_000
    let steps = stepsFor(nanoseconds: 200)
    for (name, inside, outside) in [
        ("around an increment, nothing else", UInt32(0), UInt32(0)),
        ("around some 200 ns of work, the same again outside", steps, steps),
    ] {
        for threads in [2, 4, 16] as [UInt32] {
            // New locks for each round, and the old ones kept: whether a lock and its value share a cache line is chance, and decides much.
            let sets = (0...rounds).map { _ in hammers(inside: inside, outside: outside) }
            var samples = [[Double]](repeating: [], count: sets[0].count)
            for (round, variants) in sets.enumerated() {
                for (index, variant) in variants.enumerated() {
                    let throughput = variant.run(threads: threads, nanoseconds: nanoseconds)
                    if round > 0 { samples[index].append(throughput) }
                }
            }
            let medians = samples.map(median)
            print("contended by \(threads) threads, \(name); medians of \(rounds) interleaved rounds, million sections a second")
            for (variant, samples) in zip(sets[0], samples) {
                let sorted = samples.sorted()
                print(
                    "  \(variant.name): \(rounded(median(sorted))), half of the rounds from \(rounded(sorted[rounds / 4])) "
                        + "to \(rounded(sorted[rounds * 3 / 4]))")
            }
            print("  ForkMutex / NIOLock: \(rounded(medians[0] / medians[1]))  (promised: at least 1.0)")
            print("  ForkMutex / NIOLockedValueBox: \(rounded(medians[0] / medians[2]))")
        }
    }
}

/// How many steps of work take that long, as found now.
private func stepsFor(nanoseconds: Double) -> UInt32 {
    let steps: UInt32 = 10_000
    var sink: UInt64 = 1
    let times = (0..<100).map { _ in
        let began = bench_nanoseconds()
        sink = bench_work(sink, steps)
        return Double(bench_nanoseconds() - began)
    }
    precondition(sink != 0)
    return UInt32(nanoseconds / median(times) * Double(steps))
}

private func hammers(inside: UInt32, outside: UInt32) -> [Hammer] {
    let guarded = ForkMutex<UInt64>(0)
    let nio = NIOGuarded()
    let nioBox = NIOLockedValueBox<UInt64>(0)
    let standard = StandardMutex()
    let pthread = PthreadGuarded()
    return [
        Hammer("ForkMutex", outside) { guarded.withLock { section(&$0, inside) } },
        Hammer("NIOLock", outside) { nio.lock.withLock { section(&nio.value.pointee, inside) } },
        Hammer("NIOLockedValueBox", outside) { nioBox.withLockedValue { section(&$0, inside) } },
        Hammer("Synchronization.Mutex", outside) { standard.mutex.withLock { section(&$0, inside) } },
        Hammer("pthread mutex", outside) {
            pthread_mutex_lock(pthread.mutex)
            section(&pthread.value.pointee, inside)
            pthread_mutex_unlock(pthread.mutex)
        },
    ]
}

@inline(__always)
private func section(_ value: inout UInt64, _ steps: UInt32) {
    value = steps == 0 ? value &+ 1 : bench_work(value, steps)
}

private final class Hammer {
    let name: String
    private let body: (UnsafePointer<Bool>) -> UInt64

    // Inlined where a variant is made, so that the loop calls no closure.
    @inline(__always)
    init(_ name: String, _ outside: UInt32, _ call: @escaping () -> Void) {
        self.name = name
        body = { stop in
            var calls: UInt64 = 0
            while !bench_stopped(stop) {
                call()
                calls &+= 1
                if outside > 0 { _ = bench_work(calls, outside) }
            }
            return calls
        }
    }

    func run(threads: UInt32, nanoseconds: UInt64) -> Double {
        withExtendedLifetime(self) {
            bench_hammer(
                threads, nanoseconds,
                { context, stop in Unmanaged<Hammer>.fromOpaque(context!).takeUnretainedValue().body(stop) },
                Unmanaged.passUnretained(self).toOpaque())
        }
    }
}

// Values of their own memory, as that of a ForkMutex: a property of a class would be checked for exclusive access each time.
private final class NIOGuarded {
    let lock = NIOLock()
    let value = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init() { value.initialize(to: 0) }
    deinit { value.deallocate() }
}

private final class PthreadGuarded {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    let value = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        value.initialize(to: 0)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        value.deallocate()
    }
}

private final class StandardMutex: Sendable {
    let mutex = Mutex<UInt64>(0)
}
