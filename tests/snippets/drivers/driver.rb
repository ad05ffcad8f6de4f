require File.expand_path(ARGV.shift)
$stdin.each_line(chomp: true) do |line|
  secret, id, stamp, signature, body = line.split("\t", -1)
  id, stamp, signature = [id, stamp, signature].map { |value| value unless value.empty? } # as a missing header is read
  puts verified(secret, id, stamp, signature, body.unpack1("m")) ? "yes" : "no"
end
