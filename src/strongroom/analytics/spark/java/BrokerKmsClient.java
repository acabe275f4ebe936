package strongroom.spark;

import java.io.DataInputStream;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import org.apache.parquet.crypto.keytools.KmsClient;

/**
 * Asks the key server of this TEE to wrap and unwrap keys; master keys never come into the JVM.
 *
 * <p>Where the key server is stands in the environment that the launcher of this JVM made, and nowhere else.
 * Request: operation (1 byte), length and master key's name, length and content. Answer: status (1 byte), length and
 * content. Lengths are 4 bytes, big-endian (strongroom.analytics.spark.key_server).
 */
public final class BrokerKmsClient implements KmsClient {
    /** Environment variable that holds the path of the key server's socket. */
    static final String SOCKET = "STRONGROOM_KEY_SOCKET";

    private static final int MAX_ANSWER_BYTES = 64 * 1024;
    private static final int DONE = 0;
    private static final int REFUSED = 1;

    /** Nothing is used: the reader takes these values from the file's metadata, which the storage can make up. */
    @Override
    public void initialize(Configuration configuration, String instanceId, String instanceUrl, String token) {}

    @Override
    public String wrapKey(byte[] key, String masterKey) {
        return Base64.getEncoder().encodeToString(ask('W', masterKey, key));
    }

    @Override
    public byte[] unwrapKey(String wrappedKey, String masterKey) {
        try {
            return ask('U', masterKey, Base64.getDecoder().decode(wrappedKey));
        } catch (IllegalArgumentException error) {
            throw new ParquetCryptoRuntimeException("a wrapped key is not base64");
        }
    }

    static byte[] ask(char operation, String masterKey, byte[] content) {
        String address = System.getenv(SOCKET);
        if (address == null) {
            throw new ParquetCryptoRuntimeException("this JVM was not started by Strongroom: it has no key server");
        }
        try (SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(address))) {
            ByteBuffer request = request(operation, masterKey.getBytes(StandardCharsets.UTF_8), content);
            while (request.hasRemaining()) {
                channel.write(request);
            }
            return answer(new DataInputStream(Channels.newInputStream(channel)));
        } catch (IOException error) {
            throw new ParquetCryptoRuntimeException("the key server of this process does not answer", error);
        }
    }

    private static ByteBuffer request(char operation, byte[] name, byte[] content) {
        ByteBuffer request = ByteBuffer.allocate(1 + 4 + name.length + 4 + content.length);
        request.put((byte) operation).putInt(name.length).put(name).putInt(content.length).put(content);
        return request.flip();
    }

    private static byte[] answer(DataInputStream stream) throws IOException {
        int status = stream.readUnsignedByte();
        int length = stream.readInt();
        if (length < 0 || length > MAX_ANSWER_BYTES) {
            throw new IOException("answer too long");
        }
        byte[] content = new byte[length];
        stream.readFully(content);
        if (status == DONE) {
            return content;
        }
        String reason = new String(content, StandardCharsets.UTF_8);
        // The one exception by which the reader hides a column instead of failing.
        throw status == REFUSED ? new KeyAccessDeniedException(reason) : new ParquetCryptoRuntimeException(reason);
    }
}
