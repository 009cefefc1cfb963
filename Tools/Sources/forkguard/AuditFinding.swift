/// One kind of finding, while it is collected.
final class AuditFinding {
    let name: String
    private(set) var count = 0
    private(set) var kinds: [AuditedForkKind] = []
    private(set) var details: [String] = []
    private(set) var places: [AuditReport.Place] = []

    private var seen: Set<[String]> = []

    init(_ name: String) { self.name = name }

    func add(_ kind: AuditedForkKind?, _ detail: String, _ places: [AuditReport.Place]) {
        count += 1
        if let kind, !kinds.contains(where: { $0 === kind }) { kinds.append(kind) }
        if !detail.isEmpty && details.count < 10 && !details.contains(detail) { details.append(detail) }
        for place in places where !place.stack.isEmpty && self.places.count < 10 {
            // As a reader sees it: two calls in one line are one place.
            if seen.insert([place.side, place.what] + place.stack.map(\.inWords)).inserted { self.places.append(place) }
        }
    }
}
