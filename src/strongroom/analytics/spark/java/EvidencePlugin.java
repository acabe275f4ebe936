package strongroom.spark;

import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.api.plugin.SparkPlugin;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerExecutorAdded;
import org.apache.spark.scheduler.SparkListenerExecutorRemoved;
import org.apache.spark.scheduler.SparkListenerTaskStart;

/**
 * Carries each executor's evidence to the driver, before the executor offers itself for tasks.
 *
 * <p>The launcher of the executor makes the evidence, that of the driver takes or refuses it; both are asked over the
 * socket of {@link BrokerKmsClient}. An executor whose evidence is refused ends.
 */
public final class EvidencePlugin implements SparkPlugin {
    /** What the evidence must be about, in hexadecimal (strongroom.analytics.spark.evidence). */
    static final String JOB = "spark.strongroom.job";

    private static final byte[] NOTHING = {};

    @Override
    public DriverPlugin driverPlugin() {
        return new Collecting();
    }

    @Override
    public ExecutorPlugin executorPlugin() {
        return new Giving();
    }

    private static String name(SparkConf conf, String executor) {
        return conf.getAppId() + "/" + executor;
    }

    private static final class Giving implements ExecutorPlugin {
        @Override
        public void init(PluginContext context, Map<String, String> more) {
            String name = name(context.conf(), context.executorID());
            byte[] about = HexFormat.of().parseHex(context.conf().get(JOB));
            byte[] evidence = BrokerKmsClient.ask('Q', name, about);
            try {
                context.ask(new String[] {name, new String(evidence, StandardCharsets.UTF_8)});
            } catch (Exception error) {
                throw new IllegalStateException("the driver did not take this executor's evidence", error);
            }
        }
    }

    private static final class Collecting implements DriverPlugin {
        @Override
        public Map<String, String> init(SparkContext context, PluginContext ignored) {
            context.addSparkListener(new Watching(context));
            return Map.of();
        }

        @Override
        public Object receive(Object message) {
            String[] given = (String[]) message;
            BrokerKmsClient.ask('E', given[0], given[1].getBytes(StandardCharsets.UTF_8));
            return true;
        }
    }

    /** Tells the launcher what Spark knows of its executors, so that one without evidence is noticed. */
    private static final class Watching extends SparkListener {
        private final SparkContext context;
        private final Set<String> working = ConcurrentHashMap.newKeySet();

        Watching(SparkContext context) {
            this.context = context;
        }

        @Override
        public void onExecutorAdded(SparkListenerExecutorAdded event) {
            tell('J', event.executorId());
        }

        @Override
        public void onTaskStart(SparkListenerTaskStart event) {
            if (working.add(event.taskInfo().executorId())) {
                tell('T', event.taskInfo().executorId());
            }
        }

        @Override
        public void onExecutorRemoved(SparkListenerExecutorRemoved event) {
            tell('L', event.executorId());
        }

        private void tell(char what, String executor) {
            BrokerKmsClient.ask(what, context.applicationId() + "/" + executor, NOTHING);
        }
    }
}
