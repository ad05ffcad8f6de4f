require File.expand_path(ARGV.shift)
$stdin.each_line(chomp: true) do |line|
  secret, id, stamp, signature, body = line.split("\t", -1).map { |part| part.unpack1("m").force_encoding("UTF-8") }
  id, stamp, signature = [id, stamp, signature].map { |value| value unless value.empty? } # as a missing header is read
  puts verified(secret, id, stamp, signature, body) ? "yes" : "no"
rescue ArgumentError
  puts "raised"
end
