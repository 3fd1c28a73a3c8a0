/**
 * TypeScript types out of an OpenAPI 3.1 document: one for each schema, and one for the body of each operation that has
 * a schema of its own. It knows what our document uses and throws on what it does not know.
 */
type Schema = {
  $ref?: string;
  type?: string | string[];
  description?: string;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
};

type Operation = {
  operationId: string;
  requestBody?: { content: Record<string, { schema: Schema }> };
};

export type OpenapiDocument = {
  components: { schemas: Record<string, Schema> };
  paths: Record<string, Record<string, Operation>>;
};

export function typesOf({ components, paths }: OpenapiDocument): string {
  const named = Object.entries(components.schemas);
  const bodies = Object.values(paths)
    .flatMap((methods) => Object.values(methods))
    .flatMap(({ operationId, requestBody }): [string, Schema][] => {
      const schema = requestBody?.content['application/json']?.schema;
      return schema?.properties && Object.keys(schema.properties).length > 0
        ? [[`${operationId[0]!.toUpperCase()}${operationId.slice(1)}Body`, schema]]
        : [];
    });
  return [...named, ...bodies]
    .map(([name, schema]) => `${comment(schema)}export type ${name} = ${typeOf(schema)};\n`)
    .join('\n');
}

function typeOf(schema: Schema): string {
  if (schema.$ref !== undefined) return schema.$ref.slice('#/components/schemas/'.length);
  if (schema.allOf !== undefined) return schema.allOf.map(typeOf).join(' & ');
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeOf).join(' | ');
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  return [schema.type ?? 'any']
    .flat()
    .map((type) => plain(type, schema))
    .join(' | ');
}

function plain(type: string, schema: Schema): string {
  switch (type) {
    case 'string':
    case 'boolean':
    case 'null':
      return type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return `(${typeOf(schema.items ?? {})})[]`;
    case 'object':
      return objectOf(schema);
    default:
      throw new Error(`openapi.yaml uses the type ${type}, which test/openapi-types.ts does not know`);
  }
}

function objectOf({ properties = {}, required = [], additionalProperties: others }: Schema): string {
  const members = Object.entries(properties).map(
    ([name, schema]) => `${comment(schema)}${name}${required.includes(name) ? '' : '?'}: ${typeOf(schema)};\n`,
  );
  if (members.length > 0) return `{\n${members.join('')}}`;
  return typeof others === 'object' && others.type !== undefined
    ? `Record<string, ${typeOf(others)}>`
    : 'Record<string, unknown>';
}

function comment({ description }: Schema): string {
  return description === undefined ? '' : `/** ${description.replaceAll('*/', '* /')} */\n`;
}
