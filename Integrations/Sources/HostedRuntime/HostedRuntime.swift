internal import ForkGuard
internal import Foundation
internal import RuntimeHammers

// What a host that knows nothing of Swift calls. The load is a set of bits: 1 types, 2 lazy globals, 4 an NSLock, 8 a
// Synchronization.Mutex, 16 tasks and queues.

/// Starts the hammers.
@_cdecl("hosted_start")
public func start(_ load: UInt32) { Hammers.start(Load(rawValue: load)) }

/// Stops them.
@_cdecl("hosted_stop")
public func stop() { Hammers.stop() }

/// Before fork number `index`, on the thread that is going to fork. Returns what is in progress now.
@_cdecl("hosted_prepare")
public func prepare(_ load: UInt32, _ index: Int32) -> UInt32 { Hammers.prepare(Load(rawValue: load), Int(index)).rawValue }

/// In its child, on the same thread. Returns what gave a wrong result.
@_cdecl("hosted_check")
public func hostedCheck(_ load: UInt32, _ index: Int32) -> UInt32 { check(Load(rawValue: load), Int(index)).rawValue }

/// How often the load of that bit was done.
@_cdecl("hosted_count")
public func count(_ load: UInt32) -> UInt64 {
    let counts = Hammers.counts
    switch Load(rawValue: load) {
    case .types: return counts.types
    case .lazyGlobals: return UInt64(counts.lazyGlobals)
    case .lock: return counts.turns
    case .tasks: return counts.batches
    default: return 0
    }
}

/// `ForkGuard.generation`, as this library's copy of ForkGuard has it.
@_cdecl("hosted_generation")
public func generation() -> UInt64 { ForkGuard.generation }

/// `ForkGuard.runtimeSupport`, a line for each cure. The caller frees it.
@_cdecl("hosted_support")
public func support() -> UnsafeMutablePointer<CChar>? { strdup(ForkGuard.runtimeSupport.map(\.description).joined(separator: "\n")) }
