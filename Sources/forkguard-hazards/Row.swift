/// A line of the hazard map.
struct Row: Sendable {
    let name: String
    let group: RowGroup
    /// One sentence for `--list`.
    let about: String
    /// One where the parent's state ages with its first fork or with time, as that of Dispatch.
    let forksPerSubject: Int
    /// Called once in each parent, by the thread that will fork; in the guarded twin it registers what has to be.
    let make: @Sendable (Column) -> Hazard

    static let usualForks = 20

    init(
        _ name: String, _ about: String, group: RowGroup = .now, forksPerSubject: Int = usualForks,
        make: @escaping @Sendable (Column) -> Hazard
    ) {
        self.name = name
        self.group = group
        self.about = about
        self.forksPerSubject = forksPerSubject
        self.make = make
    }

    /// A row whose threads and child all do the same, with another number each time; it returns whether the result was right.
    static func operation(
        _ name: String, _ about: String, group: RowGroup = .now, forksPerSubject: Int = usualForks, hammers: Int = 3,
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

    /// In the parent a wrong result means that the row itself is wrong, and its numbers would be worthless.
    static func expect(_ isRight: Bool, _ name: String) {
        if !isRight { fatalError("the operation of the row '\(name)' has a wrong result in the parent") }
    }
}
