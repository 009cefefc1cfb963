/// The Swift runtime's own locks.
extension Rows {
    static let runtime: [Row] = [
        Row("lazy-global", "A lazy global that another thread is in the middle of making.") { _ in
            makingGlobals { LazyGlobals.use($0) == LazyGlobals.value($0 % LazyGlobals.count) }
        },
        Row("lazy-global-other", "A lazy global that the parent has not made, while others are made there.") { _ in
            makingGlobals { _ in LazyGlobals.useAnother() == LazyGlobals.value(100) }
        },
        Row("lazy-global-contended", "A lazy global that two threads of the child want at once; the parent makes others.") { _ in
            makingGlobals { _ in
                let other = Flag()
                let second = SystemThread("second") {
                    LazyGlobals.isMakingContended.wait()
                    other.set(LazyGlobals.useContended())
                }
                let own = LazyGlobals.useContended()
                second?.join()
                return own == LazyGlobals.value(200) && other.value == own
            }
        },
        Row.operation("metadata", "Generic types that nobody has asked for before.") { number in
            var visitor = MetadataVisitor(depth: Growing.depth(number))
            Growing.visit(number, &visitor)
            return visitor.isRight
        },
        Row.operation("casts", "Casts of new types, those that succeed and those that fail.") { number in
            var visitor = CastVisitor(depth: Growing.depth(number))
            Growing.visit(number, &visitor)
            return visitor.isRight
        },
        Row.operation("conformances", "Conformances and witness tables of new types.") { number in
            var visitor = ConformanceVisitor(depth: Growing.depth(number))
            Growing.visit(number, &visitor)
            return visitor.isRight
        },
        Row.operation("key-paths", "Key paths into new types, made, joined and used.") { number in
            var visitor = KeyPathVisitor(depth: Growing.depth(number))
            Growing.visit(number, &visitor)
            return visitor.isRight
        },
    ]

    /// Two threads of the parent want a new lazy global before each fork: each can be made once only. There is one for each of a
    /// subject's forks.
    private static func makingGlobals(check: @escaping @Sendable (Int) -> Bool) -> Hazard {
        let wanted = Flag()
        return Hazard(
            hammers: 2,
            hammer: { hammer, _ in
                let number = wanted.value
                if number > 0 {
                    let index = number - 1
                    hammer.inside { Row.expect(LazyGlobals.use(index) == LazyGlobals.value(index % LazyGlobals.count), "lazy-global") }
                }
                // Not inside again before there is another one to make. Idle, nothing is to be made.
                while number > 0, wanted.value == number { Clock.hold(microseconds: 50) }
            },
            arrange: { wanted.set($0 + 1) },
            check: check)
    }
}
