/// A line of the hazard map.
struct Row: Sendable {
    let name: String
    let group: RowGroup
    /// One sentence for `--list`.
    let about: String
    /// One where the parent's state ages with its first fork or with time, as that of Dispatch.
    let forksPerSubject: Int
    /// Whether it is about the main queue: the parent's main thread serves it, and so does the child's thread that forked, which takes the
    /// main thread's place there and no other can; such a check ends the child itself.
    let drainsMain: Bool
    private(set) var refusals = Refusals.none
    /// Called once in each parent, by the thread that will fork; in the guarded twin it registers what has to be.
    let make: @Sendable (Column) -> Hazard

    static let usualForks = 20

    init(
        _ name: String, _ about: String, group: RowGroup = .locked, forksPerSubject: Int = usualForks,
        drainsMain: Bool = false, make: @escaping @Sendable (Column) -> Hazard
    ) {
        self.name = name
        self.group = group
        self.about = about
        self.forksPerSubject = forksPerSubject
        self.drainsMain = drainsMain
        self.make = make
    }

    /// A row whose threads and child all do the same, with another number each time; it returns whether the result was right.
    static func operation(
        _ name: String, _ about: String, group: RowGroup = .locked, forksPerSubject: Int = usualForks, hammers: Int = 3,
        _ operation: @escaping @Sendable (UInt64) -> Bool
    ) -> Row {
        Row(name, about, group: group, forksPerSubject: forksPerSubject) { _ in
            // 1 is the type that everything is nested in, see `Growing`.
            expect(operation(2), name)
            return Hazard(
                hammers: hammers,
                hammer: { hammer, number in hammer.inside { expect(operation(number), name) } },
                // Numbers that no hammer gets to.
                check: { index in operation(1 << 40 + UInt64(index)) })
        }
    }

    /// A row about what hands work to threads of somebody else's. Its state ages: one fork for each parent.
    static func aging(
        _ name: String, _ about: String, group: RowGroup = .handed, _ operation: @escaping @Sendable (Int) -> Bool
    ) -> Row {
        Row.operation(name, about, group: group, forksPerSubject: 1, hammers: 2) { operation(Int(truncatingIfNeeded: $0)) }
    }

    /// The same, where the parent's threads do one thing and the child another.
    static func aging(
        _ name: String, _ about: String, group: RowGroup = .handed, drainsMain: Bool = false, make: @escaping @Sendable () -> Hazard
    ) -> Row {
        Row(name, about, group: group, forksPerSubject: 1, drainsMain: drainsMain) { _ in make() }
    }

    func refusing(_ refusals: Refusals) -> Row {
        var row = self
        row.refusals = refusals
        return row
    }

    /// In the parent a wrong result means that the row itself is wrong, and its numbers would be worthless.
    static func expect(_ isRight: Bool, _ name: String) {
        if !isRight { fatalError("the operation of the row '\(name)' has a wrong result in the parent") }
    }
}
