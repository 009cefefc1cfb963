/// One value per process, built at first use. A child builds its own; the inherited one is abandoned: never touched again and never deinitialised, so
/// that nothing is closed or said goodbye to in the parent's name.
///
/// Any thread, any side of a fork.
public final class ForkLocal<Value: Sendable>: Sendable {
    private final class Box: Sendable {
        let value: Value
        init(_ value: Value) { self.value = value }
    }

    private struct Built: Sendable {
        var generation: UInt64
        // One reference is ours to keep or to leak.
        var box: Unmanaged<Box>
    }

    private let built: ForkMutex<Built?>
    private let build: @Sendable () throws -> Value

    /// A value that `build` makes in each process that asks for it. `build` runs under a lock of its own: a fork waits for it, others that ask too. It must not ask
    /// for the same value.
    public init(
        name: String? = nil, file: StaticString = #fileID, line: UInt32 = #line, _ build: @escaping @Sendable () throws -> Value
    ) {
        self.build = build
        built = ForkMutex(nil, name: name, ifTorn: .rebuild { nil }, file: file, line: line)
    }

    deinit {
        built.withLock { built in
            if let made = built, ForkGuard.isCurrent(made.generation) { made.box.release() }
        }
    }

    /// This process's value.
    ///
    /// - Throws: what `build` throws; the next one that asks tries again.
    public func get() throws -> Value {
        try built.withLock { built in
            // Asked inside the section: no fork can come between this and the use.
            let generation = ForkGuard.generation
            if let made = built, made.generation == generation { return made.box.takeUnretainedValue().value }
            let box = Unmanaged.passRetained(Box(try build()))
            built = Built(generation: generation, box: box)
            return box.takeUnretainedValue().value
        }
    }

    /// This process's value if it was built already.
    public var ifBuilt: Value? {
        built.withLock { built in
            guard let made = built, ForkGuard.isCurrent(made.generation) else { return nil }
            return made.box.takeUnretainedValue().value
        }
    }

    /// Abandons this process's value: it is never deinitialised, and the next one that asks builds anew.
    public func abandon() { built.withLock { $0 = nil } }
}
