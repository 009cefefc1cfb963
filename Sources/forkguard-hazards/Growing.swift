/// A type that can be nested for ever, so that each number has a type of its own that nobody has asked for before.
protocol Nestable {
    associatedtype Inner
    static var depth: Int { get }
    init()
}

struct Leaf: Nestable {
    typealias Inner = Int
    static var depth: Int { 0 }
}

struct Left<Nested: Nestable>: Nestable {
    typealias Inner = Nested
    static var depth: Int { Nested.depth + 1 }
    var nested = Nested()
    var number = 1
}

struct Right<Nested: Nestable>: Nestable {
    typealias Inner = Nested
    static var depth: Int { Nested.depth + 1 }
    var number: UInt8 = 2
    var nested = Nested()
}

/// Some conform, by a condition that has to be looked up; none says so with `Marked`.
protocol Described { static var words: String { get } }
protocol Marked {}

extension Left: Described where Nested: Nestable { static var words: String { "left \(Nested.depth)" } }
extension Right: Described where Nested: Nestable { static var words: String { "right \(Nested.depth)" } }

final class GrowingBox<Element> {
    var element: Element
    init(_ element: Element) { self.element = element }
}

enum GrowingChoice<First, Second> {
    case first(First)
    case second(Second)
    case neither
}

/// What is done with a type that is known at run time only.
protocol TypeVisitor {
    mutating func visit<Visited: Nestable>(_ type: Visited.Type)
}

enum Growing {
    /// Visits the type of this number, which must not be 0: its bits say what is nested in what.
    static func visit(_ number: UInt64, _ visitor: inout some TypeVisitor) {
        grow(Leaf.self, number, &visitor)
    }

    /// From the lowest bit up to the highest that is set, so that each number has its own path.
    @inline(never)
    private static func grow<Grown: Nestable, Visitor: TypeVisitor>(_ type: Grown.Type, _ bits: UInt64, _ visitor: inout Visitor) {
        if bits == 1 { return visitor.visit(type) }
        if bits & 1 == 0 { grow(Left<Grown>.self, bits >> 1, &visitor) } else { grow(Right<Grown>.self, bits >> 1, &visitor) }
    }

    static func depth(_ number: UInt64) -> Int { 63 - number.leadingZeroBitCount }
}
