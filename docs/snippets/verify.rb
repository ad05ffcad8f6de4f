# Verify a webhook in Ruby. In Rails: request.raw_post, and request.headers["webhook-id"] and so on.
require "openssl"

# Whether we sent this. secret: whsec_…; body: the raw bytes.
def verified(secret, id, timestamp, signature, body)
  # An old request may have been sent again by somebody else.
  return false unless timestamp.to_s.b.match?(/\A\d{1,12}\z/) && (Time.now.to_i - timestamp.to_i).abs <= 300

  key = secret.delete_prefix("whsec_").unpack1("m")
  raise ArgumentError, "the secret is empty: anybody could sign with it" if key.empty?

  digest = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)
  expected = "v1,#{[digest].pack("m0")}"
  # Any of them may fit: while a secret is being rotated, there are two.
  signature.to_s.b.split(" ").any? { |token| OpenSSL.secure_compare(token, expected) }
end
