/// Metadata of all kinds: structs, enums, classes, tuples, functions, existentials, metatypes, boxes.
struct MetadataVisitor: TypeVisitor {
    let depth: Int
    var isRight = false

    @inline(never)
    mutating func visit<Visited: Nestable>(_ type: Visited.Type) {
        let kinds: [Any.Type] = [
            [Visited].self, Visited?.self, GrowingChoice<Visited, [Visited]>.self, GrowingBox<Visited>.self, (Visited, Int).self,
            ((Visited) -> Visited?).self, Visited.Type.self, [String: Visited].self, (any Collection<Visited>).self,
        ]
        let box = GrowingBox<Visited>(Visited())
        // Captured by reference: a box on the heap whose layout is the type's.
        var captured: Visited? = box.element
        let change = { captured = nil }
        escape(change)
        let choice = GrowingChoice<Visited, [Visited]>.second([box.element, box.element])
        var count = 0
        if case .second(let elements) = choice { count = elements.count }
        isRight =
            Visited.depth == depth && kinds.count == 9 && kinds[0] == Array<Visited>.self && kinds[3] == Swift.type(of: box) && count == 2
            && captured == nil && MemoryLayout<Visited>.size >= depth
    }

    @inline(never)
    private func escape(_ body: @escaping () -> Void) { body() }
}

/// Casts that succeed, and casts that fail.
struct CastVisitor: TypeVisitor {
    let depth: Int
    var isRight = false

    @inline(never)
    mutating func visit<Visited: Nestable>(_ type: Visited.Type) {
        let value: Any = Visited()
        let array: Any = [Visited()]
        isRight =
            value is Visited && (value as? any Described) != nil && (value as? any Marked) == nil && (value as? Int) == nil
            && (array as? [any Nestable])?.count == 1 && (array as? [Visited])?.count == 1 && (array as? [Int]) == nil
            && (Visited.self as Any.Type) is any Described.Type
    }
}

/// Conformances and witness tables that are looked up at run time.
struct ConformanceVisitor: TypeVisitor {
    let depth: Int
    var isRight = false

    @inline(never)
    mutating func visit<Visited: Nestable>(_ type: Visited.Type) {
        let words = (Visited.self as? any Described.Type)?.words ?? ""
        let isMarked = Visited.self is any Marked.Type
        // By the associated type, and through a conditional conformance of the standard library's.
        let inner = "\(Visited.Inner.self)"
        let isEquatable = [Visited].self is any Equatable.Type
        isRight = words.hasSuffix(" \(depth - 1)") && !isMarked && !inner.isEmpty && !isEquatable
    }
}

/// Key paths with the type in them, made, joined and used.
struct KeyPathVisitor: TypeVisitor {
    let depth: Int
    var isRight = false

    struct Holder<Held> {
        var held: Held
        var count: Int
    }

    @inline(never)
    mutating func visit<Visited: Nestable>(_ type: Visited.Type) {
        let path: WritableKeyPath<Holder<Holder<Visited>>, Holder<Visited>> = \.held
        let joined = path.appending(path: \.count)
        var holder = Holder(held: Holder(held: Visited(), count: 3), count: 4)
        holder[keyPath: joined] += depth
        isRight =
            holder[keyPath: joined] == depth + 3 && joined == \Holder<Holder<Visited>>.held.count && joined.hashValue != 0
            && [Visited()][keyPath: \[Visited].count] == 1
    }
}
