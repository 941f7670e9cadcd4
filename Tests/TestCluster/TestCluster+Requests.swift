import Foundation
import KubernetesAPI
import NIOCore
import NIOHTTP1
import Synchronization

/// What a request asks for.
private struct Route {
    var resource: KubernetesResource
    var namespace: String?
    var name: String?
    var query: [String: String]

    /// `/api/v1/…` and `/apis/GROUP/VERSION/…`, with `namespaces/NAMESPACE` or without.
    init?(_ uri: String) {
        // Go's clients write a space as "+".
        guard let parts = URLComponents(string: uri.replacing("+", with: "%20")) else { return nil }
        var path = parts.path.split(separator: "/").map(String.init)[...]
        guard let root = path.popFirst() else { return nil }
        var group = ""
        if root == "apis" { group = path.popFirst() ?? "" } else if root != "api" { return nil }
        guard let version = path.popFirst(), !path.isEmpty else { return nil }
        if path.first == "namespaces", path.count > 2 {
            path.removeFirst()
            namespace = path.popFirst()
        }
        guard let plural = path.popFirst() else { return nil }
        resource = KubernetesResource(group: group, version: version, plural: plural)
        name = path.popFirst()
        resource.subresource = path.popFirst() ?? ""
        query = Dictionary(
            (parts.queryItems ?? []).map { ($0.name, $0.value ?? "") }, uniquingKeysWith: { $1 })
    }

    func verb(_ method: HTTPMethod) -> String {
        switch method {
        case .POST: "create"
        case .PATCH: "patch"
        case .PUT: "update"
        case .DELETE: "delete"
        default: name != nil ? "get" : ["1", "true"].contains(query["watch"]) ? "watch" : "list"
        }
    }
}

extension TestCluster {
    /// Called on the connection's event loop.
    func answer(_ head: HTTPRequestHead, _ body: Data, on channel: any Channel) {
        if let discovery = Self.discovery(head.uri) { return Self.send(discovery, on: channel) }
        if let keys = tokenKeys(head) { return Self.send(keys, on: channel) }
        guard let route = Route(head.uri) else {
            return Self.send(Answer(status: 404, reason: "NotFound", message: "no such path"), on: channel)
        }
        let verb = route.verb(head.method)
        state.withLock { state in
            var answer: Answer?
            if let token = state.token, head.headers.first(name: "Authorization") != "Bearer \(token)" {
                answer = Answer(status: 401, reason: "Unauthorized", message: "Unauthorized")
            } else if let refusal = state.refusal(verb, route.resource) {
                answer = Answer(refusal, verb, route.resource)
            } else {
                answer = state.answer(verb, route, body, on: channel)
            }
            let accept = head.headers.first(name: "Accept")
            if verb == "list", answer?.status == 200, accept?.contains("as=PartialObjectMetadataList;") == true {
                answer?.leaveMetadataOnly()
            }
            state.requests.append(
                Request(
                    verb: verb, resource: route.resource, namespace: route.namespace, name: route.name,
                    query: route.query, authorization: head.headers.first(name: "Authorization"),
                    userAgent: head.headers.first(name: "User-Agent"), accept: accept,
                    status: answer?.status ?? 200, items: answer?.items ?? 0))
            if let answer { Self.send(answer, on: channel) }
        }
    }

    /// The service account issuer's documents, as strict about Accept as the real server (go-restful answers 406).
    private func tokenKeys(_ head: HTTPRequestHead) -> Answer? {
        state.withLock { state in
            guard let keys = state.tokenKeys else { return nil }
            let accepted = head.headers.first(name: "Accept")
            switch head.uri {
            case "/.well-known/openid-configuration":
                return Answer(body: Data(#"{"issuer":"\#(keys.issuer)","jwks_uri":"https://10.0.0.1/no"}"#.utf8))
            case "/openid/v1/jwks" where accepted != "application/jwk-set+json":
                return Answer(status: 406, reason: "NotAcceptable", message: "Not Acceptable")
            case "/openid/v1/jwks":
                state.keyReads += 1
                return Answer(body: Data(keys.json.utf8))
            default: return nil
            }
        }
    }

    private static func send(_ answer: Answer, on channel: any Channel) {
        var headers: HTTPHeaders = ["Content-Type": "application/json", "Content-Length": "\(answer.body.count)"]
        if let seconds = answer.retryAfter { headers.add(name: "Retry-After", value: "\(seconds)") }
        let head = HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status), headers: headers)
        channel.write(ResponsePart.head(head), promise: nil)
        channel.write(ResponsePart.body(answer.body), promise: nil)
        channel.writeAndFlush(ResponsePart.end, promise: nil)
    }

    /// As much as kubectl wants to know before it asks for objects.
    private static func discovery(_ uri: String) -> Answer? {
        let path = uri.prefix { $0 != "?" }
        func resources(_ version: String, _ kinds: [(String, String)]) -> String {
            let list = kinds.map {
                """
                {"name":"\($0.0)","singularName":"","namespaced":true,"kind":"\($0.1)",\
                "verbs":["get","list","watch","create","patch"]}
                """
            }.joined(separator: ",")
            return #"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"\#(version)","resources":[\#(list)]}"#
        }
        let group =
            #"{"name":"kubevirt.io","versions":[{"groupVersion":"kubevirt.io/v1","version":"v1"}],"#
            + #""preferredVersion":{"groupVersion":"kubevirt.io/v1","version":"v1"}}"#
        let body: String? =
            switch path {
            case "/api": #"{"kind":"APIVersions","versions":["v1"]}"#
            case "/apis": #"{"kind":"APIGroupList","apiVersion":"v1","groups":[\#(group)]}"#
            case "/api/v1": resources("v1", [("pods", "Pod"), ("events", "Event")])
            case "/apis/kubevirt.io/v1":
                resources(
                    "kubevirt.io/v1",
                    [
                        ("virtualmachines", "VirtualMachine"), ("virtualmachineinstances", "VirtualMachineInstance"),
                        ("virtualmachineinstancemigrations", "VirtualMachineInstanceMigration"),
                    ])
            case "/version": #"{"major":"1","minor":"36","gitVersion":"v1.36.0"}"#
            default: nil
            }
        return body.map { Answer(body: Data($0.utf8)) }
    }
}

/// An answer that is whole at once.
struct Answer {
    var status = 200
    var body: Data
    var retryAfter: Int?
    var items = 0

    init(body: Data, items: Int = 0) { (self.body, self.items) = (body, items) }

    init(status: Int, reason: String, message: String, cause: String? = nil) {
        self.status = status
        var object: [String: Any] = [
            "kind": "Status", "apiVersion": "v1", "metadata": [String: String](), "status": "Failure",
            "message": message, "reason": reason, "code": status,
        ]
        if let cause { object["details"] = ["causes": [["reason": cause]]] }
        body = (try? StoredObject.encode(object)) ?? Data()
    }

    init(_ refusal: ClusterState.Refusal, _ verb: String, _ resource: KubernetesResource) {
        self =
            switch refusal.status {
            case 403:
                Answer(
                    status: 403, reason: "Forbidden",
                    message: """
                        \(resource) is forbidden: User "system:serviceaccount:holdfast:agent" cannot \(verb) resource \
                        "\(resource.plural)" in API group "\(resource.group)" at the cluster scope
                        """, cause: refusal.cause)
            case 429: Answer(status: 429, reason: "TooManyRequests", message: "too many requests")
            case 410: .gone
            default: Answer(status: refusal.status, reason: "InternalError", message: "the test says so")
            }
        retryAfter = refusal.retryAfter
    }

    /// Of a list's items.
    mutating func leaveMetadataOnly() {
        guard var list = try? JSONSerialization.jsonObject(with: body) as? [String: Any] else { return }
        (list["kind"], list["apiVersion"]) = ("PartialObjectMetadataList", "meta.k8s.io/v1")
        list["items"] = (list["items"] as? [[String: Any]])?.map { item in
            ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"] ?? [:]]
        }
        body = (try? StoredObject.encode(list)) ?? body
    }

    static func tooLarge(_ version: Int, current: Int) -> Answer {
        Answer(
            status: 504, reason: "Timeout", message: "Too large resource version: \(version), current: \(current)")
    }

    static var gone: Answer {
        Answer(status: 410, reason: "Expired", message: "The resourceVersion for the provided watch is too old.")
    }
}

extension ClusterState {
    /// Nil for a watch that has begun.
    fileprivate mutating func answer(_ verb: String, _ route: Route, _ body: Data, on channel: any Channel) -> Answer? {
        var key = StoredObject.Key(
            resource: route.resource, namespace: route.namespace ?? "default", name: route.name ?? "")
        key.resource.subresource = ""
        switch verb {
        case "get":
            guard let object = objects[key] else { return notFound(key) }
            return Answer(body: object.json)
        case "list", "watch":
            guard let labels = ObjectSelector(route.query["labelSelector"] ?? ""),
                let fields = ObjectSelector(route.query["fieldSelector"] ?? "")
            else { return Answer(status: 400, reason: "BadRequest", message: "unable to parse requirement") }
            if !route.resource.group.isEmpty,
                let field = fields.keys.first(where: { !["metadata.name", "metadata.namespace"].contains($0) })
            {
                return Answer(status: 400, reason: "BadRequest", message: "field label not supported: \(field)")
            }
            let filter = ObjectFilter(
                resource: route.resource, namespace: route.namespace, labels: labels, fields: fields)
            return verb == "list" ? list(filter, route.query) : watch(filter, route.query, on: channel)
        case "create": return create(route, body)
        case "patch": return patch(key, body, keepingSpec: route.resource.subresource == "status")
        case "delete":
            do { try delete(key, isAnnounced: true) } catch { return notFound(key) }
            return Answer(body: Data(#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#.utf8))
        default: return Answer(status: 405, reason: "MethodNotAllowed", message: verb)
        }
    }

    private func notFound(_ key: StoredObject.Key) -> Answer {
        Answer(status: 404, reason: "NotFound", message: "\(key.resource) \"\(key.name)\" not found")
    }

    private mutating func list(_ filter: ObjectFilter, _ query: [String: String]) -> Answer {
        var pages = Pages(rest: [], resourceVersion: resourceVersion)
        var limit = query["limit"].flatMap { Int($0) } ?? 0
        if let token = query["continue"], !token.isEmpty {
            guard let known = self.pages.removeValue(forKey: token) else { return .gone }
            pages = known
        } else if let version = query["resourceVersion"].flatMap({ Int($0) }) {
            // Out of the watch cache: at this version or later, and whole.
            if version != 0, limit > 0 {
                return Answer(status: 400, reason: "BadRequest", message: "no exact version is kept here")
            }
            pages.resourceVersion = staleCache?.resourceVersion ?? resourceVersion
            if version > pages.resourceVersion { return .tooLarge(version, current: pages.resourceVersion) }
            pages.rest =
                staleCache.map { $0.objects.values.filter(filter.passes).sorted { $0.key < $1.key } } ?? sorted(filter)
            limit = 0
        } else {
            pages.rest = sorted(filter)
        }
        let page = limit > 0 ? Array(pages.rest.prefix(limit)) : pages.rest
        pages.rest.removeFirst(page.count)
        var next = ""
        if !pages.rest.isEmpty {
            nextID += 1
            next = "page-\(nextID)"
            self.pages[next] = pages
        }
        let version = filter.resource.group.isEmpty ? "v1" : "\(filter.resource.group)/\(filter.resource.version)"
        var body = Data(
            #"{"kind":"\#(Self.kind(of: filter.resource))List","apiVersion":"\#(version)","metadata":{"continue":"\#(next)","resourceVersion":"\#(pages.resourceVersion)"},"items":["#
                .utf8)
        for (index, object) in page.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            body.append(object.item)
        }
        body.append(Data("]}".utf8))
        return Answer(body: body, items: page.count)
    }

    /// Clients take the items' kind from the list's.
    private static func kind(of resource: KubernetesResource) -> String {
        switch resource.plural {
        case "pods": "Pod"
        case "events": "Event"
        case "virtualmachines": "VirtualMachine"
        case "virtualmachineinstances": "VirtualMachineInstance"
        case "virtualmachineinstancemigrations": "VirtualMachineInstanceMigration"
        default: ""
        }
    }

    private mutating func watch(_ filter: ObjectFilter, _ query: [String: String], on channel: any Channel) -> Answer? {
        let start = query["resourceVersion"].flatMap { Int($0) } ?? 0
        if start > resourceVersion { return .tooLarge(start, current: resourceVersion) }
        let isTooOld = start != 0 && start < compacted
        if isTooOld, !tellsGoneAsEvent { return .gone }
        let head = HTTPResponseHead(
            version: .http1_1, status: .ok,
            headers: ["Content-Type": "application/json", "Transfer-Encoding": "chunked"])
        channel.writeAndFlush(ResponsePart.head(head), promise: nil)
        let stream = WatchStream(
            filter: filter, start: start, wantsBookmarks: query["allowWatchBookmarks"].map { $0 != "false" } ?? false,
            channel: channel)
        if isTooOld {
            stream.write("ERROR", Answer.gone.body)
            stream.end(inMidLine: false)
            return nil
        }
        if start == 0 {
            for object in sorted(filter) { stream.write("ADDED", object.json) }
        } else {
            let changes = history[filter.resource] ?? []
            // From the end: of thousands the last few are asked for.
            let missed = changes.lastIndex { $0.resourceVersion <= start }.map { $0 + 1 } ?? 0
            for change in changes[missed...] { stream.tell(change) }
        }
        nextID += 1
        watches[nextID] = stream
        if let seconds = query["timeoutSeconds"].flatMap({ Int64($0) }) {
            let id = nextID
            channel.eventLoop.scheduleTask(in: .seconds(seconds)) {
                channel.pipeline.fireUserInboundEventTriggered(WatchTimeout(id: id))
            }
        }
        return nil
    }

    private mutating func create(_ route: Route, _ body: Data) -> Answer {
        guard var object = try? JSONSerialization.jsonObject(with: body) as? [String: Any] else {
            return Answer(status: 400, reason: "BadRequest", message: "no JSON")
        }
        var metadata = object["metadata"] as? [String: Any] ?? [:]
        metadata["namespace"] = route.namespace ?? "default"
        if metadata["name"] == nil {
            nextID += 1
            metadata["name"] = "\(metadata["generateName"] as? String ?? "")\(nextID)"
        }
        metadata["uid"] = nil
        object["metadata"] = metadata
        let key = StoredObject.Key(
            resource: route.resource, namespace: route.namespace ?? "default",
            name: metadata["name"] as? String ?? "")
        if objects[key] != nil {
            return Answer(status: 409, reason: "AlreadyExists", message: "\(key.resource) \(key.name) already exists")
        }
        do {
            _ = try put(StoredObject.encode(object), isAnnounced: true)
        } catch {
            return Answer(status: 422, reason: "Invalid", message: "\(error)")
        }
        var answer = Answer(body: objects[key]?.json ?? Data("{}".utf8))
        answer.status = 201
        return answer
    }

    private mutating func patch(_ key: StoredObject.Key, _ body: Data, keepingSpec: Bool) -> Answer {
        guard let known = objects[key] else { return notFound(key) }
        guard var patch = try? JSONSerialization.jsonObject(with: body) as? [String: Any],
            let target = try? JSONSerialization.jsonObject(with: known.json)
        else { return Answer(status: 400, reason: "BadRequest", message: "no JSON") }
        if keepingSpec { patch["spec"] = nil }
        guard let merged = try? StoredObject.encode(Self.merge(patch, into: target)) else {
            return Answer(status: 400, reason: "BadRequest", message: "no JSON")
        }
        do {
            _ = try put(merged, isAnnounced: true)
        } catch {
            return Answer(status: 422, reason: "Invalid", message: "\(error)")
        }
        return Answer(body: objects[key]?.json ?? Data())
    }

    /// RFC 7386.
    private static func merge(_ patch: Any, into target: Any) -> Any {
        guard let patch = patch as? [String: Any] else { return patch }
        var result = target as? [String: Any] ?? [:]
        for (name, value) in patch {
            result[name] = value is NSNull ? nil : merge(value, into: result[name] ?? [String: Any]())
        }
        return result
    }
}
