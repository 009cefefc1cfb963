/// What a server answered.
public struct HTTPResponse: Sendable {
    /// 200 and the like.
    public let status: Int
    /// In the order in which they came.
    public let headers: [(name: String, value: String)]
    /// All of it.
    public let body: [UInt8]

    /// The body as UTF-8.
    public var text: String { String(decoding: body, as: UTF8.self) }

    /// The value of a header, in whatever case; of several with that name all, with commas between.
    public subscript(name: String) -> String? { Self.value(of: name, in: headers) }

    static func value(of name: String, in headers: [(name: String, value: String)]) -> String? {
        let values = headers.lazy.filter { $0.name.lowercased() == name.lowercased() }.map(\.value)
        return values.isEmpty ? nil : values.joined(separator: ", ")
    }
}
