/// A generic type that nests in itself: as many types as one likes, none of which the compiler has made.
struct Pair<A, B> {
    var a: A?
    var b: B?
}

protocol Numbered {
    static var number: Int { get }
}

extension Pair: Numbered {
    static var number: Int { 1 }
}

// A conformance that depends on others: each new type's is looked for, and made.
extension Pair: Equatable where A: Equatable, B: Equatable {}
extension Pair: Hashable where A: Hashable, B: Hashable {}

/// Makes the type that the lowest `depth` bits spell, and uses it: metadata, casts, conformances. Returns `depth` plus 3.
@inline(never)
package func makeType<T: Hashable>(_: T.Type, _ bits: UInt64, depth: Int, of whole: Int) -> Int {
    guard depth == 0 else {
        return bits & 1 == 0
            ? makeType(Pair<T, Int>.self, bits >> 1, depth: depth - 1, of: whole)
            : makeType(Pair<String, T>.self, bits >> 1, depth: depth - 1, of: whole)
    }
    let value: Any = Pair<T, [T]>(a: nil, b: nil)
    let numbered = (value as? any Numbered).map { type(of: $0).number } ?? 0
    let hashable = (value as? any Hashable) != nil ? 1 : 0
    let dictionary = [T: String]()
    return whole + numbered + hashable + dictionary.count + (MemoryLayout<(T, Int)>.size > 0 ? 1 : 0)
}
