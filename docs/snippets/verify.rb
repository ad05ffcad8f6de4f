# Verify a webhook in Ruby. In Rails: request.raw_post, and request.headers["webhook-id"] and so on.
require "base64"
require "openssl"

# Whether we sent this. secret: whsec_…; body: the raw bytes.
def verified(secret, id, timestamp, signature, body)
  # An old request may have been sent again by somebody else.
  return false unless timestamp.to_s.match?(/\A\d{1,12}\z/) && (Time.now.to_i - timestamp.to_i).abs <= 300

  key = Base64.strict_decode64(secret.delete_prefix("whsec_"))
  digest = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)
  expected = "v1,#{Base64.strict_encode64(digest)}"
  # Any of them may fit: while a secret is being rotated, there are two.
  signature.to_s.split(" ").any? { |token| OpenSSL.secure_compare(token, expected) }
end
