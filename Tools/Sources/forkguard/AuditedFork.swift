/// One fork: what its two processes then did.
final class AuditedFork {
    let id: String
    let kind: AuditedForkKind
    let process: Int32
    /// Those that were open.
    let descriptors: [AuditEvent.Descriptor]
    var child: AuditedProcess?
    var uses: [Int32: Uses] = [:]

    init(_ id: String, _ kind: AuditedForkKind, process: Int32, _ descriptors: [AuditEvent.Descriptor]) {
        self.id = id
        self.kind = kind
        self.process = process
        self.descriptors = descriptors
    }

    func descriptor(_ number: Int32) -> AuditEvent.Descriptor? { descriptors.first { $0.fd == number } }

    /// Who used a descriptor, and how.
    struct Uses {
        var parent: [String] = []
        var child: [String] = []
        var places: [AuditReport.Place] = []
        /// What the child does with it after it said goodbye there is part of that.
        var childSaidGoodbye = false
    }
}
