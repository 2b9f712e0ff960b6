# From an OpenAPI v3 document of the pinned Kubernetes module: one self-contained, strict JSON schema per kind,
# as {"<kind>-<group>-<version>": schema, ...}, under the names that kubeconform asks for.

# OpenAPI's nullable isn't JSON Schema; and an unknown field is an error, as for kubectl --validate=strict.
def strict:
  walk(
    if type != "object" then .
    elif .nullable == true and (.type | type) == "string" then .type = [.type, "null"]
    else . end
    | if type == "object" and (.properties | type) == "object" and has("additionalProperties") == false
        and .["x-kubernetes-preserve-unknown-fields"] != true
        and ((has("type") | not) or .type == "object" or .type == ["object", "null"])
      then .additionalProperties = false
      else . end
  );

def file_name: [.kind] + (if .group == "" then [] else [.group | split(".")[0]] end) + [.version] | join("-") | ascii_downcase;

(.components.schemas | strict) as $all
| reduce ($all | to_entries[] | select(.value["x-kubernetes-group-version-kind"] | type == "array") ) as $entry ({};
    reduce ($entry.value["x-kubernetes-group-version-kind"][]) as $gvk (.;
      .[$gvk | file_name] = {"$ref": "#/components/schemas/\($entry.key)"}))
| {kinds: ., components: {schemas: $all}}
