/// An answer: a status and a text.
struct HTTPResponse: Sendable {
    private static let reasons = [200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"]

    private let status: Int
    private let text: String

    init(_ status: Int, _ text: String) {
        self.status = status
        self.text = text
    }

    func bytes(isLast: Bool) -> [UInt8] {
        let head = "HTTP/1.1 \(status) \(Self.reasons[status]!)\r\nContent-Type: text/plain\r\nContent-Length: \(text.utf8.count)\r\n"
        return Array((head + (isLast ? "Connection: close\r\n\r\n" : "\r\n") + text).utf8)
    }
}
