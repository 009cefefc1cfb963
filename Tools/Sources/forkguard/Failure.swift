/// Why the command ends before CMD does, with its exit status: 127 where CMD is not found, 126 where it cannot be executed, 125 for what is
/// our own.
struct Failure: Error, CustomStringConvertible {
    let description: String
    let status: Int32

    init(_ description: String, status: Int32 = 125) {
        self.description = description
        self.status = status
    }
}
