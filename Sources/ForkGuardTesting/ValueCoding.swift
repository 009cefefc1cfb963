#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// How values travel: as JSON.
enum ValueCoding {
    static func makeEncoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return encoder
    }

    /// In the runner. Inside of an array, since not every Foundation takes a bare value.
    static func decode<Value: Codable>(_: Value.Type, _ bytes: [UInt8]) throws -> Value {
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        guard let value = try decoder.decode([Value].self, from: Data(bytes)).first else {
            throw DecodingError.valueNotFound(Value.self, .init(codingPath: [], debugDescription: "no value"))
        }
        return value
    }

    /// Has the runtime make, before the fork, what the child needs to encode the value: what exists already is found without a lock, and
    /// such a lock may be held for ever in the child. A value at hand prepares most; without one its coding keys remain.
    static func prepare<Value: Codable>(_ sample: Value?, of _: Value.Type) {
        let encoder = makeEncoder()
        prepare(sample.map { [$0] } ?? [], with: encoder)
        if sample == nil {
            prepare([0], with: encoder)
            prepare([UInt64(0)], with: encoder)
            prepare([0.5], with: encoder)
            prepare([true], with: encoder)
            prepare([""], with: encoder)
            prepare([[""]], with: encoder)
            prepare([[0]], with: encoder)
            prepare([["": 0]], with: encoder)
            prepare([Sample(text: "", numbers: [0])], with: encoder)
        }
    }

    private static func prepare<Value: Codable>(_ values: [Value], with encoder: JSONEncoder) {
        if let data = try? encoder.encode(values) { _ = data.withUnsafeBytes { $0.count } }
    }

    private struct Sample: Codable {
        var text: String
        var numbers: [Int]
    }
}
