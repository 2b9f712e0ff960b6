// Reads {"jwksUrl", "token", "issuer"?, "audience"?} from standard input, verifies the token with jose against the
// keys that the URL serves, and prints {"claims", "header", "thumbprint"} or {"refused": <code>}.
import { calculateJwkThumbprint, createRemoteJWKSet, decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { text } from 'node:stream/consumers'

const { jwksUrl, token, issuer, audience } = JSON.parse(await text(process.stdin))
const answer = await verify().catch((error) => {
  // Anything that jose did not decide, such as a connection refused, is a failed test and not a refused token.
  if (!(error instanceof errors.JOSEError) || error instanceof errors.JWKSTimeout) throw error
  return { refused: error.code }
})
process.stdout.write(JSON.stringify(answer))

async function verify() {
  const keys = createRemoteJWKSet(new URL(jwksUrl))
  const { payload, protectedHeader } = await jwtVerify(token, keys, { algorithms: ['EdDSA'], issuer, audience, typ: 'JWT' })
  const used = keys.jwks().keys.find((key) => key.kid === decodeProtectedHeader(token).kid)
  return { claims: payload, header: protectedHeader, thumbprint: await calculateJwkThumbprint(used, 'sha256') }
}
