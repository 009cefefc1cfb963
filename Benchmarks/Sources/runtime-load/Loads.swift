import CBench
import Foundation
import Synchronization

/// Nanoseconds that one call takes a thread, of threads that all call at once.
func hammered(by threads: UInt32, milliseconds: UInt64, _ body: @escaping bench_body) -> Double {
    // Million calls a second, of all together.
    Double(threads) * 1000 / bench_hammer(threads, milliseconds * 1_000_000, body, nil)
}

func medianOfRounds(calls: Int, _ run: (Int) -> Void) -> Double {
    let samples = (0..<9).map { _ in
        let began = bench_nanoseconds()
        run(calls)
        return Double(bench_nanoseconds() - began) / Double(calls)
    }
    return samples.sorted()[samples.count / 2]
}

// ---- types ----

struct Pair<A, B> {
    var a: A?
    var b: B?
}

protocol Numbered {
    var number: Int { get }
}

extension Pair: Numbered {
    var number: Int { 1 }
}

extension Pair: Equatable where A: Equatable, B: Equatable {}
extension Pair: Hashable where A: Hashable, B: Hashable {}

/// A new type for each `bits`, a dictionary and an array of it, and casts of its values.
@inline(never)
private func useNewType<T: Hashable>(_: T.Type, _ value: T, _ bits: UInt64, _ depth: Int) -> Int {
    guard depth == 0 else {
        return bits & 1 == 0
            ? useNewType(Pair<T, Int>.self, Pair(a: value, b: nil), bits >> 1, depth - 1)
            : useNewType(Pair<String, T>.self, Pair(a: nil, b: value), bits >> 1, depth - 1)
    }
    let dictionary = [value: 1], array: Any = [value]
    let something: Any = value
    let number = (something as? any Numbered)?.number ?? 0
    return number + dictionary.count + ((array as? [T])?.count ?? 0) + ((something as? any Hashable) != nil ? 1 : 0)
}

private let made = Atomic<UInt64>(0)

let hammerTypes: bench_body = { _, stop in
    var calls: UInt64 = 0
    while !bench_stopped(stop) {
        precondition(useNewType(Int.self, 1, made.wrappingAdd(1, ordering: .relaxed).newValue, 20) == 4)
        calls += 1
    }
    return calls
}

// ---- lazy globals ----

@inline(never)
func readGlobal() -> Int { g000 }

/// All of them for the first time.
func firstUse() -> Double {
    let began = bench_nanoseconds()
    var sum = 0
    for global in globals { sum += global() }
    precondition(sum == globals.count * (globals.count - 1) / 2)
    return Double(bench_nanoseconds() - began) / Double(globals.count)
}

// ---- mutexes ----

// Unchecked: under its lock, below, and freed by nobody.
private final class Guarded: @unchecked Sendable {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    let lock = NSLock()
    let value = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        value.initialize(to: 0)
    }
}
private let guarded = Guarded()

let hammerMutex: bench_body = { _, stop in
    let mutex = guarded.mutex, value = guarded.value
    var calls: UInt64 = 0
    while !bench_stopped(stop) {
        pthread_mutex_lock(mutex)
        value.pointee &+= 1
        pthread_mutex_unlock(mutex)
        calls += 1
    }
    return calls
}

let hammerNSLock: bench_body = { _, stop in
    let lock = guarded.lock, value = guarded.value
    var calls: UInt64 = 0
    while !bench_stopped(stop) {
        lock.lock()
        value.pointee &+= 1
        lock.unlock()
        calls += 1
    }
    return calls
}
